//! Whole screens, as a terminal of a given size would show them.

use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::crossterm::event::KeyCode;
use uvs_control::protocol::Filter;

use super::super::testing::{KEY, connection, sample};
use super::*;

fn app() -> App {
    let mut app = App::new(sample(199_000, 0));
    app.sampled(sample(200_000, 25));
    app
}

/// The screen's lines without the blanks at their ends.
fn screen(app: &App, width: u16, height: u16) -> String {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).expect("a terminal");
    let mut table = TableState::new();
    terminal
        .draw(|frame| {
            draw(frame, app, "1 s", &mut table);
        })
        .expect("drawn");
    let buffer = terminal.backend().buffer();
    let cells = buffer.content().chunks(width.into());
    let line = |cells: &[ratatui::buffer::Cell]| {
        let text: String = cells.iter().map(ratatui::buffer::Cell::symbol).collect();
        text.trim_end().to_owned() + "\n"
    };
    cells.map(line).collect()
}

#[test]
fn services_with_their_rates() {
    assert_eq!(
        screen(&app(), 112, 8),
        "\
uvs top   pid 4711, up 3 m 20 s, 1 service, worker 50 % busy   every 1 s
connections 7/1000000   frames/s 500 in, 475 sent, 25 dropped, 0 missed
all services 25 conn/s, in 20.0k bit/s 250 pkt/s, out 20.0k bit/s 250 pkt/s
Services
SERVICE              ACTIVE  INACT  CONN/S▼  IN-BIT/S  OUT-BIT/S  IN-PKT/S  OUT-PKT/S  SCHEDULER  SERVERS
TCP 192.168.0.38:80       4     40       25     20.0k      20.0k       250        250  wrr              2

q quit  ? help  Enter servers  c conns  Esc quit  <> sort CONN/S▼  r rev  p pause
"
    );
}

#[test]
fn a_narrow_terminal_keeps_the_columns_that_matter() {
    let shown = screen(&app(), 50, 8);
    let titles = shown.lines().nth(4).expect("the titles");
    assert_eq!(titles, "SERVICE              ACTIVE  INACT  CONN/S▼  …");
}

#[test]
fn titles_are_whole_in_any_width() {
    let app = app();
    let all = screen(&app, 112, 8);
    let all = all.lines().nth(4).expect("the titles");
    for width in 30..112 {
        let shown = screen(&app, width, 8);
        let titles = shown.lines().nth(4).expect("the titles");
        let whole = titles.trim_end_matches('…').trim_end();
        let rest = all.strip_prefix(whole);
        let rest = rest.unwrap_or_else(|| panic!("{width}: {titles}"));
        assert!(rest.is_empty() || rest.starts_with(' ') && titles.ends_with('…'));
    }
}

#[test]
fn nothing_is_cut_off_without_a_mark() {
    let mut app = app();
    app.press(KeyCode::Enter);
    for width in 12..130 {
        let shown = screen(&app, width, 8);
        let lines: Vec<&str> = shown.lines().collect();
        for whole in [
            "all services 25 conn/s, in 20.0k bit/s 250 pkt/s, out 20.0k bit/s 250 pkt/s",
            "TCP 192.168.0.38:80 › servers",
            "192.168.0.18:80",
        ] {
            let kept = |line: &&&str| line.starts_with(whole.chars().next().expect("a letter"));
            let seen = lines.iter().copied().find(|line| line.contains(whole));
            let cut = || {
                lines
                    .iter()
                    .find(kept)
                    .is_some_and(|line| line.contains('…'))
            };
            assert!(seen.is_some() || cut(), "{width}: {whole}\n{shown}");
        }
    }
}

#[test]
fn servers_have_their_history_below_where_there_is_room() {
    let mut app = app();
    app.press(KeyCode::Enter);
    app.sampled(sample(201_000, 75));
    let shown = screen(&app, 130, 20);
    let lines: Vec<&str> = shown.lines().collect();
    assert_eq!(lines[3], "TCP 192.168.0.38:80 › servers");
    assert_eq!(
        lines[5],
        "192.168.0.18:80       3     30       50     40.0k      40.0k       500        500  nat        3  up     -    ▅█"
    );
    assert_eq!(
        lines[6],
        "192.168.0.28:80       1     10       50     40.0k          -       500          -  dr         1  up     -    ▅█"
    );
    assert!(
        lines[14].starts_with(" 192.168.0.18:80: bit/s in and out, 80.0k at most ───"),
        "{shown}"
    );
    assert_eq!(lines[18], "██", "{shown}");
    assert!(lines[19].contains("Enter conns"), "{shown}");
}

#[test]
fn connections_say_how_many_are_left_out() {
    let mut app = app();
    app.press(KeyCode::Char('c'));
    let list = vec![connection(40001, 3), connection(40002, 12)];
    let filter: Filter = app.wanted().expect("connections");
    app.found(filter, list, 5000, 1.0);
    let shown = screen(&app, 110, 9);
    let lines: Vec<&str> = shown.lines().collect();
    assert_eq!(
        lines[3],
        "TCP 192.168.0.38:80 › connections (2 of 5000: those with the latest packets)"
    );
    assert_eq!(
        lines[4..7],
        [
            "CLIENT          SERVER           STATE        EXPIRES   IDLE▲  IN-BIT/S  OUT-BIT/S  VIP              PATH",
            "10.0.0.9:40002  192.168.0.18:80  ESTABLISHED      899  988 ms         -          -  192.168.0.38:80  user",
            "10.0.0.9:40001  192.168.0.18:80  ESTABLISHED      899  997 ms         -          -  192.168.0.38:80  kernel",
        ]
    );
}

#[test]
fn trouble_a_pause_and_a_service_that_went_are_said() {
    let mut app = app();
    app.press(KeyCode::Enter);
    app.press(KeyCode::Char('p'));
    app.trouble = Some("no daemon answers here".to_owned());
    let shown = screen(&app, 80, 10);
    assert!(shown.contains(" busy   PAUSED\n"));
    assert_eq!(shown.lines().nth(3), Some("no daemon answers here"));
    assert!(shown.contains("p go on"), "{shown}");
    app.press(KeyCode::Char('p'));
    let mut none = sample(202_000, 30);
    none.services.clear();
    app.sampled(none);
    let shown = screen(&app, 80, 10);
    assert!(
        shown.contains(&format!("{KEY} › servers: this service is gone")),
        "{shown}"
    );
    assert!(!shown.contains("no daemon"), "{shown}");
}

#[test]
fn any_size_and_level_can_be_drawn() {
    let mut app = app();
    for key in [KeyCode::Enter, KeyCode::Enter, KeyCode::Char('?')] {
        for (width, height) in [(1, 1), (3, 2), (20, 4), (80, 24), (300, 90)] {
            screen(&app, width, height);
        }
        app.press(key);
    }
    assert!(screen(&app, 80, 24).contains("any key closes this"));
}
