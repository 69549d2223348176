//! The screen: what is going on in three lines, the level's table, the chosen line's past, the keys.

use ratatui::Frame;
use ratatui::layout::{Alignment, Constraint, Layout, Rect};
use ratatui::style::{Color, Style, Stylize};
use ratatui::text::{Line, Text};
use ratatui::widgets::{Block, Cell, Clear, Paragraph, Row, Sparkline, Table, TableState};
use uvs_core::flow::Endpoint;

use super::app::{App, Place};
use super::grid::{Item, bars};
use super::model::Reading;
use crate::commands::columns::{Rates, Value};
use crate::commands::units::{age, short};

/// Screen lines from which there is room for the past of the chosen line.
const CHART_FROM: u16 = 18;
const CHART: u16 = 5;
/// Columns between two columns.
const GAP: u16 = 2;
/// What stands where something was cut off.
const MORE: &str = "…";
/// The least and the most columns of a trend in its line.
const TREND: (u16, u16) = (8, 30);

const KEYS: &[(&str, &str)] = &[
    ("↑ ↓ j k", "choose a line; PgUp, PgDn, Home, End go further"),
    (
        "Enter →",
        "open it: a service's servers, a server's connections",
    ),
    ("c", "all connections of the service"),
    ("Esc ←", "back; Esc at the services quits"),
    ("< >", "sort by the column to the left or right"),
    ("r", "reverse the order"),
    ("Space p", "pause, and go on"),
    ("? h", "this help"),
    ("q Ctrl-C", "quit"),
];

/// Draws everything; returns how many lines of the table there is room for.
pub(super) fn draw(
    frame: &mut Frame<'_>,
    app: &App,
    interval: &str,
    table: &mut TableState,
) -> usize {
    let chart = if frame.area().height >= CHART_FROM {
        CHART
    } else {
        0
    };
    let trouble = u16::from(app.trouble.is_some());
    let [head, warning, body, history, foot] = Layout::vertical([
        Constraint::Length(3),
        Constraint::Length(trouble),
        Constraint::Min(2),
        Constraint::Length(chart),
        Constraint::Length(1),
    ])
    .areas(frame.area());
    let items = app.items();
    let chosen = app.chosen(&items);
    frame.render_widget(header(app, interval, head.width), head);
    if let Some(trouble) = &app.trouble {
        let trouble = cut(trouble.clone(), warning.width);
        frame.render_widget(Paragraph::new(trouble).fg(Color::Red).bold(), warning);
    }
    table.select(chosen);
    level(frame, app, &items, table, body);
    if chart > 0 {
        draw_history(frame, app, chosen.map(|i| &items[i]), history);
    }
    frame.render_widget(footer(app, foot.width), foot);
    if app.help {
        help(frame);
    }
    usize::from(body.height.saturating_sub(2))
}

fn header(app: &App, interval: &str, width: u16) -> Paragraph<'static> {
    let reading = app.reading();
    let state = if app.is_paused() {
        "PAUSED".to_owned()
    } else {
        format!("every {interval}")
    };
    let uptime = age(std::time::Duration::from_secs(reading.uptime));
    let services = match reading.services.len() {
        1 => "1 service".to_owned(),
        n => format!("{n} services"),
    };
    let busy = reading.frames.as_ref().map_or_else(String::new, |f| {
        let each: Vec<String> = f.busy.iter().map(|b| format!("{:.0}", 100.0 * b)).collect();
        let who = if each.len() == 1 { "worker" } else { "workers" };
        format!(", {who} {} % busy", each.join(" "))
    });
    let first = format!(
        "uvs top   pid {}, up {uptime}, {services}{busy}   {state}",
        reading.pid
    );
    Paragraph::new(vec![
        Line::from(cut(first, width)).bold(),
        Line::from(cut(frames(reading), width)),
        Line::from(cut(total(reading.total), width)),
    ])
}

fn frames(reading: &Reading) -> String {
    let (now, limit) = (reading.connections, reading.connection_limit);
    let connections = format!("connections {now}/{limit}");
    let Some(f) = &reading.frames else {
        return connections;
    };
    format!(
        "{connections}   frames/s {} in, {} sent, {} dropped, {} missed",
        short(f.received),
        short(f.sent),
        short(f.dropped),
        short(f.ring_drops),
    )
}

fn total(rates: Option<Rates>) -> String {
    let Some(r) = rates else {
        return "all services: rates come with the next sample".to_owned();
    };
    format!(
        "all services {} conn/s, in {} bit/s {} pkt/s, out {} bit/s {} pkt/s",
        short(r.connections),
        short(r.in_bits),
        short(r.in_packets),
        short(r.out_bits),
        short(r.out_packets),
    )
}

fn level(frame: &mut Frame<'_>, app: &App, items: &[Item], state: &mut TableState, area: Rect) {
    let [title, area] = Layout::vertical([Constraint::Length(1), Constraint::Min(1)]).areas(area);
    let name = cut(heading(app), title.width);
    frame.render_widget(Paragraph::new(name).bold().fg(Color::Cyan), title);
    let (columns, (by, down)) = (app.columns(), app.level().sort);
    let mut titles: Vec<String> = columns.iter().map(|c| c.title().to_owned()).collect();
    titles[by].push(if down { '▼' } else { '▲' });
    let texts: Vec<Vec<String>> = items.iter().map(texts).collect();
    let (widths, trend) = fit(&titles, &texts, area.width);
    let more = if widths.len() < titles.len() {
        MORE
    } else {
        ""
    };
    let align = |i: usize, text: String| {
        let numeric = columns[i].is_numeric();
        let side = if numeric {
            Alignment::Right
        } else {
            Alignment::Left
        };
        Cell::new(Text::from(text).alignment(side))
    };
    // A last column of no width would still have its gap, and take that from the others.
    let last = (trend > 0).then_some(trend);
    let row = |cells: Vec<String>, text: String| {
        let cells = cells.into_iter().zip(&widths).enumerate();
        let cells = cells.map(|(i, (text, &width))| align(i, cut(text, width)));
        Row::new(cells.chain(last.map(|_| Cell::new(text))))
    };
    let lines = texts.into_iter().zip(items);
    let rows = lines.map(|(cells, item)| row(cells, bars(&item.trend, trend.into())));
    let all = widths.iter().copied().chain(last).map(Constraint::Length);
    let table = Table::new(rows, all)
        .header(row(titles, more.to_owned()).style(Style::new().bold()))
        .column_spacing(GAP)
        .row_highlight_style(Style::new().reversed());
    frame.render_stateful_widget(table, area, state);
}

fn texts(item: &Item) -> Vec<String> {
    item.values.iter().map(Value::text).collect()
}

/// A text in so many columns: what does not fit is cut off, and that is marked.
fn cut(text: String, width: u16) -> String {
    let width = usize::from(width);
    if text.chars().count() <= width {
        return text;
    }
    let kept = text.chars().take(width.saturating_sub(1));
    kept.chain(MORE.chars()).take(width).collect()
}

/// The widths of the first columns, as many as there is room for, and what is left for the trend or, where there are
/// more columns, for the mark that says so.
fn fit(titles: &[String], rows: &[Vec<String>], room: u16) -> (Vec<u16>, u16) {
    let chars = |text: &String| text.chars().count();
    let width = |i: usize| {
        let cells = rows.iter().map(|row| chars(&row[i]));
        let most = cells.max().unwrap_or(0).max(chars(&titles[i]));
        u16::try_from(most).unwrap_or(room)
    };
    let mut used = 0;
    let mut widths = Vec::new();
    for i in 0..titles.len() {
        let more = width(i) + if i > 0 { GAP } else { 0 };
        if i > 0 && used + more > room {
            break;
        }
        used += more;
        widths.push(width(i));
    }
    let mark = GAP + 1;
    if widths.len() < titles.len() {
        while used + mark > room && widths.len() > 1 {
            used -= GAP + widths.pop().unwrap_or_default();
        }
        if let [first] = widths[..] {
            widths[0] = first.min(room.saturating_sub(mark));
        }
        return (widths, 1);
    }
    let left = room.saturating_sub(used + GAP);
    let trend = if left < TREND.0 { 0 } else { left.min(TREND.1) };
    (widths, trend)
}

fn heading(app: &App) -> String {
    let of = |server: Option<Endpoint>| server.map(|s| format!(" › {s}")).unwrap_or_default();
    match app.level().place {
        Place::Services => "Services".to_owned(),
        Place::Servers(key) if app.reading().service(&key).is_none() => {
            format!("{key} › servers: this service is gone; Esc goes back")
        }
        Place::Servers(key) => format!("{key} › servers"),
        Place::Connections(key, server) => {
            let (shown, all) = (app.items().len() as u64, app.listed.matched);
            let part = match shown < all {
                true => format!(" ({shown} of {all}: those with the latest packets)"),
                false => format!(" ({shown})"),
            };
            format!("{key}{} › connections{part}", of(server))
        }
    }
}

/// The chosen line's past; connections have none, and show that of their server or service.
fn draw_history(frame: &mut Frame<'_>, app: &App, chosen: Option<&Item>, area: Rect) {
    let (name, trend) = match (app.level().place, chosen) {
        (Place::Services | Place::Servers(_), Some(item)) => {
            (item.values[0].text(), item.trend.clone())
        }
        (Place::Connections(key, server), _) => {
            let name = server.map_or_else(|| key.to_string(), |s| s.to_string());
            (name, app.reading().trend(key, server).to_vec())
        }
        _ => return,
    };
    let shown = &trend[trend.len().saturating_sub(area.width.into())..];
    let most = shown.iter().copied().max().unwrap_or(0);
    let title = format!(" {name}: bit/s in and out, {} at most ", short(most as f64));
    let chart = Sparkline::default()
        .block(
            Block::new()
                .borders(ratatui::widgets::Borders::TOP)
                .title(title),
        )
        .style(Style::new().fg(Color::Green))
        .data(shown);
    frame.render_widget(chart, area);
}

fn footer(app: &App, width: u16) -> Line<'static> {
    let (by, down) = app.level().sort;
    let title = app.columns()[by].title();
    let order = if down { '▼' } else { '▲' };
    let pause = if app.is_paused() { "go on" } else { "pause" };
    let deeper = match app.level().place {
        Place::Services => "Enter servers  c conns  Esc quit",
        Place::Servers(_) => "Enter conns  c all  Esc back",
        Place::Connections(..) => "Esc back",
    };
    let keys = format!("q quit  ? help  {deeper}  <> sort {title}{order}  r rev  p {pause}");
    Line::from(cut(keys, width)).dim()
}

fn help(frame: &mut Frame<'_>) {
    let lines: Vec<Line<'_>> = KEYS
        .iter()
        .map(|(key, what)| Line::from(format!(" {key:<9} {what}")))
        .chain([
            Line::default(),
            Line::from(" Rates are between the last two samples, by the daemon's clock. `-` is"),
            Line::from(" not known: replies that do not pass the director (dr, tunnels), or the"),
            Line::from(
                " first sample. IN is from clients, OUT is to them; bits are of IP packets.",
            ),
            Line::from(
                " A TCP connection's bits are of its data, by sequence numbers, in any mode.",
            ),
            Line::from(" Frames are missed while a ring is full."),
        ])
        .collect();
    let height = u16::try_from(lines.len() + 2).unwrap_or(u16::MAX);
    let width = 76;
    let whole = frame.area();
    let area = Rect {
        x: whole.width.saturating_sub(width) / 2,
        y: whole.height.saturating_sub(height) / 2,
        width: width.min(whole.width),
        height: height.min(whole.height),
    };
    frame.render_widget(Clear, area);
    let block = Block::bordered().title(" uvs top: any key closes this ");
    frame.render_widget(Paragraph::new(lines).block(block), area);
}

#[cfg(test)]
mod tests;
