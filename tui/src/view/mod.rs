//! Draws a [`State`](crate::state::State): reads, never changes it. [`screen`] puts the parts together,
//! [`layout`] says where they go, [`panel`] and [`table`] draw the five lists, one file each.

mod active;
mod details;
mod functions;
mod header;
mod help;
mod layout;
mod losses;
mod panel;
mod routes;
mod screen;
mod statements;
mod table;
mod workers;

#[cfg(test)]
mod tests;

pub(crate) use screen::draw;
