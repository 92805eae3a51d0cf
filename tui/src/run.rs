//! The one loop: input, deliveries, time and shutdown in; at most one drawing a frame out. It decides
//! nothing: [`update`](crate::update) does, and [`view`](crate::view) draws.

use crate::keyboard::Keyboard;
use crate::keys;
use crate::source::Source;
use crate::state::State;
use crate::terminal::{Guard, follow_mouse};
use crate::theme::{Palette, Theme};
use crate::update::{Effect, Message, Mouse, update};
use crate::view;
use anyhow::Context;
use crossterm::event::{Event, MouseButton, MouseEvent, MouseEventKind};
use ratatui::Terminal;
use ratatui::backend::Backend;
use std::future::Future;
use std::io;
use std::pin::pin;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

/// Between two drawings, at least: more often is not seen, and costs the same each time.
const FRAME: Duration = Duration::from_millis(33);

#[derive(Clone, Copy, Debug, Default)]
pub struct ViewOptions {
    pub palette: Palette,
    /// What happens when the source ends: leave (`true`), or keep the last figures on the screen, marked as
    /// ended, until the user quits.
    pub leave_when_source_ends: bool,
}

impl ViewOptions {
    /// Colours as the environment asks for them (`NO_COLOR`).
    pub fn from_environment() -> Self {
        Self { palette: Palette::from_environment(true), leave_when_source_ends: false }
    }
}

/// Why the view ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// The user quit.
    Quit,
    /// The shutdown future resolved (a signal, or the asked duration is over).
    Shutdown,
    /// The source ended, and the options said to leave then.
    SourceEnded,
}

/// Takes the terminal over and shows what `source` delivers until the user quits or `shutdown` resolves.
/// The terminal is given back before this returns, and when the future is dropped.
///
/// Nothing else may write to the terminal meanwhile: logs belong into a file or a buffer.
///
/// # Errors
/// When standard output is not a terminal, or the terminal goes away.
pub async fn run(
    source: impl Source,
    options: ViewOptions,
    shutdown: impl Future<Output = ()>,
) -> anyhow::Result<Exit> {
    let mut guard = Guard::take().context(
        "cannot take over the terminal; without one, the plain text output shows the same figures",
    )?;
    // Declared after the guard, so that the thread has stopped reading before the terminal is given back:
    // what the user types next belongs to the shell.
    let (_reader, input) = Keyboard::start().context("cannot start the thread that reads the keyboard")?;
    drive(&mut guard.terminal, follow_mouse, input, source, options, shutdown).await
}

/// The loop itself, over any backend and any input. `mouse` has the terminal follow the mouse, or not.
async fn drive<B>(
    terminal: &mut Terminal<B>,
    mouse: impl Fn(bool) -> io::Result<()>,
    mut input: mpsc::Receiver<io::Result<Event>>,
    mut source: impl Source,
    options: ViewOptions,
    shutdown: impl Future<Output = ()>,
) -> anyhow::Result<Exit>
where
    B: Backend,
    B::Error: Send + Sync + 'static,
{
    let theme = Theme::new(options.palette);
    let mut state = State::default();
    let mut shutdown = pin!(shutdown);
    let mut seconds = interval(Duration::from_secs(1));
    seconds.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut ended = false;
    let mut dirty = true;
    let mut follows_mouse = false;
    let mut next_frame = Instant::now();
    loop {
        if dirty && Instant::now() >= next_frame {
            let size = terminal.size().context("cannot ask the terminal for its size")?;
            let _drawn_anyway = update(&mut state, Message::Size(size.width, size.height));
            terminal.draw(|frame| view::draw(&state, theme, frame)).context("cannot draw on the terminal")?;
            (dirty, next_frame) = (false, Instant::now() + FRAME);
        }
        if state.wants_mouse() != follows_mouse {
            follows_mouse = !follows_mouse;
            mouse(follows_mouse).context("cannot write to the terminal")?;
        }
        let effect = tokio::select! {
            // In this order: leaving must work however fast snapshots arrive.
            biased;
            () = &mut shutdown => return Ok(Exit::Shutdown),
            event = input.recv() => {
                let event = event.context("the thread that reads the keyboard ended")?;
                let mut effect = handle(&mut state, &event.context("cannot read the keyboard")?);
                // A held key or a paste is many events: they are one turn, and one drawing.
                while effect != Effect::Quit && let Ok(event) = input.try_recv() {
                    effect = effect.max(handle(&mut state, &event.context("cannot read the keyboard")?));
                }
                effect
            }
            () = sleep_until(next_frame), if dirty => Effect::Nothing,
            delivery = source.next(), if !ended => match delivery {
                Some(delivery) => update(&mut state, Message::Delivery(delivery)),
                None if options.leave_when_source_ends => return leave(terminal, &state, theme),
                None => {
                    ended = true;
                    update(&mut state, Message::SourceEnded)
                }
            },
            _ = seconds.tick() => update(&mut state, Message::Second),
        };
        for ask in state.asks.drain(..) {
            source.ask(ask);
        }
        match effect {
            Effect::Quit => return Ok(Exit::Quit),
            Effect::Draw => dirty = true,
            Effect::Nothing => {}
        }
    }
}

/// What came last is on the screen when the view leaves.
fn leave<B>(terminal: &mut Terminal<B>, state: &State, theme: Theme) -> anyhow::Result<Exit>
where
    B: Backend,
    B::Error: Send + Sync + 'static,
{
    terminal.draw(|frame| view::draw(state, theme, frame)).context("cannot draw on the terminal")?;
    Ok(Exit::SourceEnded)
}

fn handle(state: &mut State, event: &Event) -> Effect {
    match event {
        Event::Key(key) => match keys::action(state.mode(), *key) {
            Some(action) => update(state, Message::Action(action)),
            None => Effect::Nothing,
        },
        Event::Mouse(event) => match mouse_of(*event) {
            Some(mouse) => update(state, Message::Mouse(mouse)),
            None => Effect::Nothing,
        },
        // The drawing asks the terminal for its size itself.
        Event::Resize(_, _) => Effect::Draw,
        _ => Effect::Nothing,
    }
}

fn mouse_of(event: MouseEvent) -> Option<Mouse> {
    let (x, y) = (event.column, event.row);
    match event.kind {
        MouseEventKind::Down(MouseButton::Left) => Some(Mouse::Pressed(x, y)),
        MouseEventKind::Drag(MouseButton::Left) => Some(Mouse::Dragged(x, y)),
        MouseEventKind::Up(MouseButton::Left) => Some(Mouse::Released(x, y)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture;
    use crate::source::Local;
    use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
    use pyapm_model::snapshot::Snapshot;
    use ratatui::backend::TestBackend;
    use std::future::{pending, ready};
    use std::sync::Arc;
    use tokio::sync::watch;

    /// Never drawn by the loop; in the channel because a `watch` needs a first value.
    fn channel() -> (watch::Sender<Arc<Snapshot>>, Local) {
        let (sender, receiver) = watch::channel(Arc::new(Snapshot::default()));
        (sender, Local::new(receiver))
    }

    fn key(code: KeyCode) -> io::Result<Event> {
        Ok(Event::Key(KeyEvent::new(code, KeyModifiers::NONE)))
    }

    fn terminal() -> Terminal<TestBackend> {
        Terminal::new(TestBackend::new(80, 24)).unwrap()
    }

    fn leaving() -> ViewOptions {
        ViewOptions { leave_when_source_ends: true, ..ViewOptions::default() }
    }

    #[tokio::test]
    async fn the_first_snapshot_is_on_the_screen_when_the_source_ends() {
        let (sender, receiver) = channel();
        let (_keys, input) = mpsc::channel(4);
        sender.send(Arc::new(fixture::shop())).unwrap();
        drop(sender);
        let mut terminal = terminal();
        let exit = drive(&mut terminal, |_| Ok(()), input, receiver, leaving(), pending()).await.unwrap();
        assert_eq!(exit, Exit::SourceEnded);
        assert!(format!("{}", terminal.backend()).contains("POST /checkout"));
    }

    #[tokio::test]
    async fn an_ended_source_is_marked_and_the_keyboard_still_works() {
        let (sender, receiver) = channel();
        sender.send(Arc::new(fixture::shop())).unwrap();
        drop(sender);
        let (keys, input) = mpsc::channel(4);
        let mut terminal = terminal();
        let options = ViewOptions::default();
        let view = drive(&mut terminal, |_| Ok(()), input, receiver, options, pending());
        let user = async {
            tokio::time::sleep(Duration::from_millis(200)).await;
            keys.send(key(KeyCode::Char('q'))).await.unwrap();
            pending::<()>().await;
        };
        tokio::select! {
            exit = view => assert_eq!(exit.unwrap(), Exit::Quit),
            () = user => {}
        }
        assert!(format!("{}", terminal.backend()).contains("ENDED"));
    }

    #[tokio::test]
    async fn shutdown_wins_over_everything() {
        let (sender, receiver) = channel();
        sender.send(Arc::new(fixture::shop())).unwrap();
        let (keys, input) = mpsc::channel(4);
        keys.try_send(key(KeyCode::Char('q'))).unwrap();
        let options = ViewOptions::default();
        let exit = drive(&mut terminal(), |_| Ok(()), input, receiver, options, ready(())).await.unwrap();
        assert_eq!(exit, Exit::Shutdown);
    }

    #[tokio::test]
    async fn keys_in_a_burst_are_all_taken_and_quit_ends_the_burst() {
        let (_sender, receiver) = channel();
        let (keys, input) = mpsc::channel(4);
        for code in [KeyCode::Tab, KeyCode::Char('?'), KeyCode::Char('q'), KeyCode::Tab] {
            keys.try_send(key(code)).unwrap();
        }
        let options = ViewOptions::default();
        let exit = drive(&mut terminal(), |_| Ok(()), input, receiver, options, pending()).await.unwrap();
        assert_eq!(exit, Exit::Quit);
    }

    #[tokio::test]
    async fn a_keyboard_that_cannot_be_read_is_an_error() {
        let (_sender, receiver) = channel();
        let (keys, input) = mpsc::channel(4);
        keys.try_send(Err(io::Error::other("gone"))).unwrap();
        let options = ViewOptions::default();
        let error =
            drive(&mut terminal(), |_| Ok(()), input, receiver, options, pending()).await.unwrap_err();
        assert_eq!(error.to_string(), "cannot read the keyboard");
    }
}
