//! HTTP: routes, rights, logins and limits.

mod activities;
mod api;
mod audit;
mod auth;
mod contract;
mod front;
mod lead_search;
mod leads;
mod limits;
mod load;
mod logins;
mod rights;
mod users;
