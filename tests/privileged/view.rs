//! The live view as a person meets it, in a real terminal emulator.

use harness::gunicorn::{Gunicorn, Options};
use harness::load::{Plan, Request, Stream};
use harness::place::{self, Python};
use harness::tmux::Terminal;
use harness::wait;
use std::process::{Command, Stdio};

fn load(shop: &Gunicorn) -> Stream {
    let requests = ["/", "/products/1", "/nplus1", "/sqlerror", "/cpu/20"].map(Request::get).to_vec();
    Stream::start(&shop.address, &Plan { requests, total: 0, clients: 2 }, None)
}

fn command(shop: &Gunicorn, before: &str) -> String {
    format!("{before} {} attach --pid {}", place::binary().unwrap().display(), shop.master())
}

/// Whether a screen with its sequences has a colour: SGR 30 to 49 or 90 to 107 (ECMA-48 and aixterm).
fn has_colour(screen: &str) -> bool {
    screen.split("\u{1b}[").skip(1).any(|rest| {
        let numbers = rest.split('m').next().unwrap_or_default();
        numbers
            .split(';')
            .filter_map(|word| word.parse::<u32>().ok())
            .any(|number| matches!(number, 30..=38 | 40..=48 | 90..=97 | 100..=107))
    })
}

#[test]
fn the_view_shows_the_application_and_gives_the_terminal_back() {
    let shop = Gunicorn::start(&Options::new(Python::first().unwrap())).unwrap();
    let load = load(&shop);
    let terminal = Terminal::open(120, 40).unwrap();
    terminal.type_line(&command(&shop, "")).unwrap();
    terminal.wait_for("4 workers").unwrap();
    let screen = terminal.wait_for("GET /nplus1").unwrap();
    for words in ["shop", "gunicorn", "p50", "p95", "p99", "errors", "CPU", "loss", "q quit"] {
        assert!(screen.contains(words), "`{words}` is missing on:\n{screen}");
    }
    assert_eq!(screen.lines().count(), 40, "{screen}");
    assert!(has_colour(&terminal.screen_with_colours().unwrap()), "a terminal with colours shows none");

    terminal.wait_until("a function of the shop", |screen| screen.contains("spend_")).unwrap();

    terminal.resize(80, 24).unwrap();
    let small = terminal
        .wait_until("the footer on line 24", |screen| {
            screen.lines().nth(23).is_some_and(|line| line.contains("q quit"))
        })
        .unwrap();
    assert!(small.lines().next().is_some_and(|line| line.starts_with("shop")), "{small}");

    look_into_a_transaction(&terminal);
    choose_dots(&terminal);

    terminal.press("?").unwrap();
    terminal.wait_until("the help", |screen| screen.to_lowercase().contains("help")).unwrap();
    terminal.press("Escape").unwrap();
    terminal.press("q").unwrap();
    terminal.wait_until("the shell", |screen| screen.trim_end().ends_with("prompt>")).unwrap();
    // The terminal is as it was: it echoes, and edits lines.
    terminal.type_line("clear; stty -a").unwrap();
    let after = terminal.wait_for("isig icanon iexten echo echoe").unwrap();
    assert!(!after.contains("q quit"), "the view is still on the screen:\n{after}");
    load.stop().without_failures().unwrap();
}

/// From the routes to one of the latest transactions of one, with its statements and the lines that made them; and back.
fn look_into_a_transaction(terminal: &Terminal) {
    terminal.resize(160, 50).unwrap();
    terminal.press("4").unwrap();
    terminal.wait_for("Routes").unwrap();
    terminal.type_line("/nplus1").unwrap();
    terminal.wait_for("Routes 1 of").unwrap();
    terminal.press("Enter").unwrap();
    terminal.wait_for("Transactions of GET /nplus1").unwrap();
    // The latest; but of many in a second not all are kept, and it may be one of the others.
    terminal.press("s").unwrap();
    let mut row = 0;
    let screen = wait::until("a transaction that is kept", || {
        // One further down each time: the first one may stay the first.
        terminal.press("Home")?;
        for _ in 0..row {
            terminal.press("Down")?;
        }
        row = (row + 1) % 10;
        terminal.press("Enter")?;
        let screen = terminal.wait_until("a transaction", |screen| {
            screen.contains("Calls ") || screen.contains("no more is kept of it")
        })?;
        if screen.contains("Calls ") {
            return Ok(Some(screen));
        }
        terminal.press("Escape")?;
        terminal.wait_for("Transactions of GET /nplus1")?;
        Ok(None)
    })
    .unwrap();
    // What it waited for is for `waits_in_transactions` to say: a database on the same machine may have answered at once.
    for words in ["GET /nplus1  200", "Where its time went", "on a CPU", "the same call again and again"] {
        assert!(screen.contains(words), "`{words}` is missing on:\n{screen}");
    }
    terminal.press("e").unwrap();
    terminal
        .wait_until("a statement with the line that made it", |screen| {
            screen.contains("SELECT") && screen.contains("pages.py:") && screen.contains("system mysql")
        })
        .unwrap();
    terminal.press("Escape").unwrap();
    terminal.wait_for("Transactions of GET /nplus1").unwrap();
    terminal.press("Escape").unwrap();
    terminal.wait_for("Routes").unwrap();
    // What is filtered was left with the way into it.
    terminal.wait_for("GET /sqlerror").unwrap();
}

/// Dots of the X-View within a rectangle that the keyboard draws become a list, and one of them is looked into.
fn choose_dots(terminal: &Terminal) {
    terminal.press("3").unwrap();
    terminal
        .wait_until("dots with errors among them", |screen| {
            screen.contains('×')
                && screen.chars().any(|character| ('\u{2801}'..='\u{28ff}').contains(&character))
        })
        .unwrap();
    terminal.press("j").unwrap();
    terminal.wait_for("in the rectangle").unwrap();
    // By steps, then over all.
    terminal.press("L").unwrap();
    terminal.press("a").unwrap();
    terminal.press("Enter").unwrap();
    terminal.wait_for("Transactions of").unwrap();
    terminal.press("Enter").unwrap();
    terminal
        .wait_until("one of them", |screen| {
            screen.contains("> Transactions > Transaction")
                // The slowest is kept as a rule, but not under any load.
                && (screen.contains("Where its time went") || screen.contains("no more is kept of it"))
        })
        .unwrap();
    terminal.press("1").unwrap();
    terminal.resize(80, 24).unwrap();
    terminal.wait_for("Routes").unwrap();
}

#[test]
fn no_color_is_honoured() {
    let shop = Gunicorn::start(&Options::new(Python::first().unwrap())).unwrap();
    let load = load(&shop);
    let terminal = Terminal::open(100, 30).unwrap();
    terminal.type_line(&command(&shop, "NO_COLOR=1")).unwrap();
    terminal.wait_for("GET /nplus1").unwrap();
    let screen = terminal.screen_with_colours().unwrap();
    assert!(!has_colour(&screen), "{screen}");
    terminal.press("q").unwrap();
    load.stop().without_failures().unwrap();
}

#[test]
fn ctrl_c_leaves_the_view_too() {
    let shop = Gunicorn::start(&Options::new(Python::first().unwrap())).unwrap();
    let terminal = Terminal::open(100, 30).unwrap();
    terminal.type_line(&command(&shop, "")).unwrap();
    terminal.wait_for("q quit").unwrap();
    terminal.press("C-c").unwrap();
    terminal.wait_until("the shell", |screen| screen.trim_end().ends_with("prompt>")).unwrap();
}

#[test]
fn without_a_terminal_there_is_a_text_report() {
    let shop = Gunicorn::start(&Options::new(Python::first().unwrap())).unwrap();
    let load = load(&shop);
    let output = Command::new(place::binary().unwrap())
        .args(["attach", "--pid", &shop.master().to_string(), "--duration", "3"])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    load.stop().without_failures().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(text.contains("shop") && text.contains("GET /nplus1"), "{text}");
    assert!(!text.contains('\u{1b}'), "escape sequences in a file:\n{text}");
}

#[test]
fn colours_are_told_from_other_sequences() {
    assert!(
        has_colour("\u{1b}[1;32mgreen") && has_colour("\u{1b}[38;5;4mblue") && has_colour("\u{1b}[97mwhite")
    );
    assert!(!has_colour("\u{1b}[1mbold\u{1b}[0m\u{1b}[39m") && !has_colour("plain 32m"));
}
