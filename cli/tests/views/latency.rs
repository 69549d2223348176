//! `uvs latency`: every forwarded frame of its window is in it, once.

use std::thread;

use serde_json::Value;
use uvs_lab::load::{Connections, wrk};
use uvs_lab::{Daemon, Mode, Options};

use crate::stand::{ask, eventually, lab, serving_by_guard};

fn json(daemon: &Daemon<'_>, words: &str) -> Value {
    let output = daemon.uvs(words).expect(words);
    serde_json::from_str(&output.stdout).expect("JSON")
}

fn sent(daemon: &Daemon<'_>) -> u64 {
    let drops = json(daemon, "show drops -o json");
    drops["totals"]["sent"].as_u64().expect("a number")
}

/// What was sent, once two looks see the same: the last segments of the last connections are through.
fn sent_at_rest(daemon: &Daemon<'_>) -> u64 {
    let mut last = sent(daemon);
    eventually("no frame is under way", || {
        let before = std::mem::replace(&mut last, sent(daemon));
        before == last
    });
    last
}

/// The frames of a window, after its parts have been found to agree.
fn frames(window: &Value) -> u64 {
    let frames = window["frames"].as_u64().expect("a number");
    assert_eq!(window["forwarded"], frames, "{window}");
    let steps = window["histogram"].as_array().expect("an array");
    let in_steps: u64 = steps.iter().filter_map(|s| s["frames"].as_u64()).sum();
    assert_eq!(in_steps, frames, "{window}");
    let percentiles = window["percentiles"].as_array().expect("an array");
    let ns: Vec<u64> = percentiles
        .iter()
        .filter_map(|p| p["ns"].as_u64())
        .collect();
    assert_eq!(ns.len(), if frames > 0 { 5 } else { 0 }, "{window}");
    assert!(ns.is_sorted(), "{window}");
    let last = steps
        .last()
        .map_or(0, |s| s["up_to_ns"].as_u64().expect("a number"));
    assert!(ns.last().is_none_or(|max| *max <= last), "{window}");
    frames
}

#[test]
fn a_window_has_every_frame_that_was_forwarded_in_it() {
    let (lab, _shell) = lab(Mode::Nat, Options::default());
    // Of what the kernel forwards nobody knows how long it took.
    let daemon = serving_by_guard(&lab);
    ask(&lab).expect("answers");
    let before = sent_at_rest(&daemon);
    assert_eq!(
        frames(&json(&daemon, "latency --since start -o json")),
        before
    );
    ask(&lab).expect("answers");
    let after = sent_at_rest(&daemon);
    assert!(after >= before + 40 * 8, "{before} {after}");
    assert_eq!(
        frames(&json(&daemon, "latency --since start -o json")),
        after
    );
    // Nobody sends any more: soon the last second has nothing to show, and says so.
    eventually("a window without frames", || {
        let window = json(&daemon, "latency --since 1s -o json");
        frames(&window) == 0
    });
    let text = daemon.uvs("latency --since 1s").expect("a text").stdout;
    assert!(text.starts_with("0 frames forwarded in "), "{text}");
    daemon.stop().expect("stopped");
}

#[test]
fn a_window_to_come_has_the_frames_of_a_part_of_the_load() {
    let (lab, _shell) = lab(Mode::Dr, Options::default());
    let daemon = serving_by_guard(&lab);
    let url = lab.plan.url("/");
    let window = thread::scope(|scope| {
        let load = scope.spawn(|| wrk(&lab.client, &url, 6, 4, Connections::Kept));
        let window = json(&daemon, "latency --seconds 2 -o json");
        let load = load.join().expect("it ends").expect("wrk runs");
        assert_eq!(load.failed, 0);
        window
    });
    let part = frames(&window);
    assert!(part > 0 && part <= sent(&daemon), "{window}");
    assert!(
        window["seconds"].as_f64().expect("a number") >= 2.0,
        "{window}"
    );
    let busy = window["busy"].as_f64().expect("a number");
    assert!(busy > 0.0 && busy <= 1.0, "{window}");
    let text = daemon.uvs("latency --since 1m").expect("a text").stdout;
    assert!(
        text.contains("\np99.9 ") && text.contains("█") && text.contains("time stamp"),
        "{text}"
    );
    daemon.stop().expect("stopped");
}
