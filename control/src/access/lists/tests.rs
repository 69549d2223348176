//! Lists from all origins: what stays over a reload, what a refused change leaves, and what is built again.

use uvs_core::flow::{Addr, Endpoint, Protocol};
use uvs_core::service::ServiceKey;

use super::*;

const KEY: ServiceKey =
    ServiceKey::address(Protocol::Tcp, Endpoint::new(Addr::v4([10, 0, 0, 100]), 80));

fn change(action: Action, service: Scope, prefixes: &[&str]) -> AccessChange {
    AccessChange {
        action,
        service,
        prefixes: prefixes.iter().map(|p| p.parse().unwrap()).collect(),
    }
}

fn deny(prefixes: &[&str]) -> AccessChange {
    change(Action::Deny, None, prefixes)
}

fn configured(rules: &[(Action, &str)]) -> AllConfigured {
    let rule = |&(action, text): &(Action, &str)| Rule {
        prefix: text.parse().unwrap(),
        action,
    };
    let list = Configured {
        rules: rules.iter().map(rule).collect(),
        ..Configured::default()
    };
    AllConfigured::from([(None, list)])
}

fn denies(lists: &Lists, d: u8) -> bool {
    lists.built().everywhere.denies(Addr::v4([192, 0, 2, d]))
}

#[test]
fn what_a_command_added_stays_over_a_reload_and_goes_by_a_command() {
    let mut lists = Lists::default();
    lists.add(&deny(&["192.0.2.1", "192.0.2.2"])).unwrap();
    lists.configure(
        &configured(&[(Action::Deny, "192.0.2.3")]),
        &ListFiles::default(),
    );
    assert!((1..=3).all(|d| denies(&lists, d)));
    lists.configure(&AllConfigured::new(), &ListFiles::default());
    assert!(denies(&lists, 1) && !denies(&lists, 3));
    lists.delete(&deny(&["192.0.2.1"])).unwrap();
    assert!(!denies(&lists, 1) && denies(&lists, 2));
    lists.delete(&deny(&["192.0.2.2"])).unwrap();
    assert!(lists.scopes.is_empty());
}

#[test]
fn a_refused_change_changes_nothing_and_says_where_the_entry_is() {
    let mut lists = Lists::default();
    lists.configure(
        &configured(&[(Action::Deny, "192.0.2.3")]),
        &ListFiles::default(),
    );
    lists.add(&deny(&["192.0.2.1"])).unwrap();
    let before = lists.built();
    for (wrong, errno, said) in [
        (
            deny(&["192.0.2.1", "192.0.2.9"]),
            Errno::NotFound,
            "192.0.2.9 is not on the deny list of every service",
        ),
        (
            deny(&["192.0.2.3"]),
            Errno::Invalid,
            "comes from the configuration: take it out there, then: uvs reload",
        ),
        (
            change(Action::Deny, Some(KEY), &["192.0.2.1"]),
            Errno::NotFound,
            "deny list of TCP 10.0.0.100:80",
        ),
        (
            change(Action::Allow, None, &["192.0.2.1"]),
            Errno::NotFound,
            "not on the allow list",
        ),
    ] {
        let refusal = lists.delete(&wrong).unwrap_err();
        assert_eq!(refusal.errno, errno, "{}", refusal.message);
        assert!(refusal.message.contains(said), "{}", refusal.message);
    }
    for (prefix, said) in [
        ("192.0.2.1", "take that back: uvs deny del 192.0.2.1"),
        ("192.0.2.3", "denied by the configuration"),
    ] {
        let refusal = lists
            .add(&change(Action::Allow, None, &[prefix]))
            .unwrap_err();
        assert!(refusal.message.contains(said), "{}", refusal.message);
    }
    assert!(Arc::ptr_eq(&before, &lists.built()));
}

#[test]
fn what_changes_nothing_builds_nothing() {
    let mut lists = Lists::default();
    let file = configured(&[(Action::Deny, "192.0.2.3")]);
    lists.configure(&file, &ListFiles::default());
    lists.add(&deny(&["192.0.2.1"])).unwrap();
    lists
        .add(&change(Action::Deny, Some(KEY), &["192.0.2.7"]))
        .unwrap();
    let before = lists.built();
    lists.add(&deny(&["192.0.2.1"])).unwrap();
    lists.configure(&file, &ListFiles::default());
    assert!(Arc::ptr_eq(&before, &lists.built()));
    lists.add(&deny(&["192.0.2.4"])).unwrap();
    let own = |access: &Access| Arc::clone(&access.services[&KEY]);
    assert!(
        Arc::ptr_eq(&own(&before), &own(&lists.built())),
        "the other list"
    );
}

#[test]
fn a_listing_comes_in_pages_with_every_origin() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("deny.txt");
    std::fs::write(&path, "198.51.100.0/24\n").unwrap();
    let mut all = configured(&[(Action::Deny, "192.0.2.3")]);
    all.get_mut(&None).unwrap().files = vec![(Action::Deny, path.clone())];
    let files = ListFiles::load(&all).unwrap();
    let mut lists = Lists::default();
    lists.configure(&all, &files);
    lists
        .add(&change(Action::Allow, Some(KEY), &["192.0.2.7"]))
        .unwrap();
    let (mut seen, mut next) = (Vec::new(), Some(0));
    while let Some(from) = next {
        let (page, rest) = lists.page(from, 1);
        seen.extend(page);
        next = rest;
    }
    let said = seen
        .iter()
        .map(|e| (e.prefix.to_string(), e.service, e.origin.clone()));
    assert_eq!(
        said.collect::<Vec<_>>(),
        [
            ("192.0.2.3".to_owned(), None, Origin::Config),
            (
                "198.51.100.0/24".to_owned(),
                None,
                Origin::File(path.display().to_string())
            ),
            ("192.0.2.7".to_owned(), Some(KEY), Origin::Live),
        ]
    );
    std::fs::write(&path, "203.0.113.0/24\n").unwrap();
    let mut files = files;
    let (path, prefixes) = files.look_again().remove(0).unwrap();
    lists.set_file(&path, &prefixes);
    assert!(!lists.built().everywhere.denies(Addr::v4([198, 51, 100, 1])));
    assert!(lists.built().everywhere.denies(Addr::v4([203, 0, 113, 1])));
}
