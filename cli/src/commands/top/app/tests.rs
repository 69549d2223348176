//! Keys and answers, and what the state becomes.

use super::super::testing::{KEY, SERVER, connection, sample};
use super::*;

fn app() -> App {
    let mut app = App::new(sample(0, 0));
    app.sampled(sample(1_000, 10));
    app
}

fn press(app: &mut App, keys: &str) -> Outcome {
    let keys = keys.chars().map(|c| match c {
        '\n' => KeyCode::Enter,
        '\x1b' => KeyCode::Esc,
        c => KeyCode::Char(c),
    });
    keys.fold(Outcome::Stay, |_, key| app.press(key))
}

fn names(app: &App) -> Vec<String> {
    app.items().iter().map(|l| l.values[0].text()).collect()
}

#[test]
fn enter_goes_down_and_escape_goes_up_and_out() {
    let mut app = app();
    assert_eq!(app.level().place, Place::Services);
    press(&mut app, "\n");
    assert_eq!(app.level().place, Place::Servers(KEY));
    press(&mut app, "\n");
    assert_eq!(app.level().place, Place::Connections(KEY, Some(SERVER)));
    assert_eq!(press(&mut app, "\n"), Outcome::Stay);
    assert_eq!(press(&mut app, "\x1b\x1b"), Outcome::Stay);
    assert_eq!(app.level().place, Place::Services);
    assert_eq!(app.press(KeyCode::Left), Outcome::Stay);
    assert_eq!(press(&mut app, "\x1b"), Outcome::Quit);
    press(&mut app, "c");
    assert_eq!(app.level().place, Place::Connections(KEY, None));
    assert_eq!(press(&mut app, "q"), Outcome::Quit);
}

#[test]
fn the_chosen_line_stays_chosen_when_the_order_changes() {
    let mut app = app();
    press(&mut app, "\n<");
    assert_eq!(app.level().sort, (2, true));
    assert_eq!(names(&app), ["192.168.0.18:80", "192.168.0.28:80"]);
    press(&mut app, "j");
    assert_eq!(app.chosen(&app.items()), Some(1));
    press(&mut app, "r");
    assert_eq!(names(&app), ["192.168.0.28:80", "192.168.0.18:80"]);
    assert_eq!(app.chosen(&app.items()), Some(0));
    // Gone: the line in its place is.
    press(&mut app, "rG");
    let mut fewer = sample(2_000, 20);
    fewer.services[0].servers.pop();
    app.sampled(fewer);
    assert_eq!(app.chosen(&app.items()), Some(0));
}

#[test]
fn columns_go_round_and_names_rise() {
    let mut app = app();
    press(&mut app, "<<<");
    assert_eq!(app.level().sort, (0, false));
    press(&mut app, "<");
    assert_eq!(app.level().sort, (services::TOP.len() - 1, true));
    press(&mut app, ">");
    assert_eq!(app.level().sort, (0, false));
}

#[test]
fn a_pause_holds_what_is_shown_and_ends() {
    let mut app = app();
    press(&mut app, " ");
    app.sampled(sample(2_000, 1_000));
    assert!(app.is_paused());
    assert_eq!(app.items()[0].values[3].text(), "10");
    press(&mut app, "p");
    assert_eq!(app.items()[0].values[3].text(), "990");
}

#[test]
fn connections_of_another_level_come_too_late() {
    let mut app = app();
    press(&mut app, "c");
    let all = app.wanted().expect("connections");
    app.found(
        all.clone(),
        vec![connection(1, 10), connection(2, 20)],
        2,
        5.0,
    );
    assert_eq!(names(&app), ["10.0.0.9:2", "10.0.0.9:1"]);
    app.found(all.clone(), vec![connection(1, 40)], 1, 7.0);
    assert_eq!(app.items()[0].values[5].text(), "12.0k");
    press(&mut app, "\x1b\n\n");
    assert!(app.items().is_empty());
    app.found(all, vec![connection(1, 70)], 1, 8.0);
    assert!(app.items().is_empty());
}

#[test]
fn any_key_closes_the_help() {
    let mut app = app();
    press(&mut app, "?");
    assert!(app.help);
    assert_eq!(press(&mut app, "q"), Outcome::Stay);
    assert!(!app.help);
}
