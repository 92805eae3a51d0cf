//! Draws a [`State`](crate::state::State): reads, never changes it. [`screen`] puts the parts together, [`layout`] says
//! where they go. [`panel`] and [`table`] draw the lists, one file each; [`document`] texts with a cursor; [`xview`] and
//! [`flame`] pictures. [`geometry`] answers where something is, for the mouse.

mod active;
mod applications;
mod details;
mod document;
mod errors;
mod failure;
mod flame;
mod functions;
mod geometry;
mod header;
mod health;
mod help;
mod in_flight;
mod layout;
mod losses;
mod panel;
mod routes;
mod screen;
mod statements;
mod table;
mod tabs;
mod transaction;
mod transactions;
mod warning;
mod waterfall;
mod worker;
mod workers;
mod xview;

#[cfg(test)]
mod tests;

pub(crate) use geometry::{call_at, document_lines, flame_node_at, overlay_hidden, xview_plot};
pub(crate) use screen::draw;
