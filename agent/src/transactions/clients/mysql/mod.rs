//! MySQL's and MariaDB's client protocol (`dev.mysql.com/doc/dev/mysql-server`, "Client/Server Protocol";
//! `mariadb.com/kb/en/clientserver-protocol`): text and prepared statements, several results in one answer,
//! files that the client is asked for, errors. Rows and values are stepped over; passwords are never looked at.

mod client;
mod packets;
mod replies;
mod requests;

pub use client::Mysql;
pub use packets::{begins, carries_statement, continues};
