//! The documentation as its readers go through it: the commands of each page, in its order, in labs whose VIPs and servers
//! are the page's. Each must end as the page says, leave the service as the page says, and print what is shown below it,
//! but for numbers. They are taken from the pages: a command that no stage runs fails with its page and line, unless it is
//! listed as run elsewhere. Needs root, or `make test`.

#[path = "documented/desk.rs"]
mod desk;
#[path = "documented/elsewhere.rs"]
mod elsewhere;
#[path = "support/heir.rs"]
mod heir;
#[path = "documented/looking.rs"]
mod looking;
#[path = "documented/pages.rs"]
mod pages;
#[path = "documented/programs.rs"]
mod programs;
#[path = "documented/prose.rs"]
mod prose;
#[path = "documented/running.rs"]
mod running;
#[path = "documented/servers.rs"]
mod servers;
#[path = "documented/shape.rs"]
mod shape;
#[path = "support/stand.rs"]
mod stand;
#[path = "documented/table.rs"]
mod table;
#[path = "views/terminal.rs"]
mod terminal;
#[path = "documented/tour.rs"]
mod tour;

/// The pages that have commands, and who goes through each.
const STAGES: &[(&str, fn())] = &[
    ("README.md", tour::the_readme),
    ("docs/access.md", table::access),
    ("docs/api.md", programs::api),
    ("docs/coming-from-ipvsadm.md", table::coming_from_ipvsadm),
    ("docs/configuration.md", running::configuration),
    ("docs/connection-log.md", programs::connection_log),
    ("docs/doctor.md", looking::doctor),
    ("docs/hook.md", looking::hook),
    ("docs/installing.md", running::installing),
    ("docs/ipv6.md", table::ipv6),
    ("docs/keepalived.md", programs::keepalived),
    ("docs/live-views.md", looking::live_views),
    ("docs/modes.md", table::modes),
    ("docs/operations.md", running::operations),
    ("docs/real-servers.md", servers::real_servers),
    ("docs/sync.md", table::sync),
    ("docs/trace.md", looking::trace),
    ("docs/two-directors.md", programs::two_directors),
];

#[test]
fn every_command_has_a_stage() {
    let mut lost = Vec::new();
    for page in pages::pages() {
        let typed = page.typed().into_iter();
        let mut typed = typed.filter(|typed| !elsewhere::is_run(typed)).peekable();
        let has_stage = STAGES.iter().any(|(name, _)| *name == page.name);
        assert!(
            !has_stage || typed.peek().is_some(),
            "{} has a stage and no command",
            page.name
        );
        if !has_stage {
            lost.extend(typed.map(|typed| typed.at()));
        }
    }
    assert!(lost.is_empty(), "no stage runs\n{}", lost.join("\n"));
}
