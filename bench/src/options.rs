//! Command line of the bench. `cargo xtask bench` builds what the paths name.

use std::{num::NonZeroU32, path::PathBuf};

use clap::Parser;

use crate::peers::{Kind, Programs};

#[derive(Debug, Parser)]
pub struct Options {
    /// Cases to run; all if none is named
    pub cases: Vec<String>,
    /// Server to measure
    #[arg(long)]
    pub leadwire: Option<PathBuf>,
    /// Server of another commit, which is measured beside it
    #[arg(long)]
    pub before: Option<PathBuf>,
    /// Name of that commit
    #[arg(long)]
    pub before_rev: Option<String>,
    /// Name of the commit that is measured
    #[arg(long)]
    pub rev: Option<String>,
    /// Folder of the reference server
    #[arg(long)]
    pub node: Option<PathBuf>,
    /// Folder with the built plugins
    #[arg(long)]
    pub plugin_dir: Option<PathBuf>,
    /// Folder for databases, logs and results
    #[arg(long, default_value = "target/bench")]
    pub out: PathBuf,
    /// File for the figures
    #[arg(long)]
    pub json: Option<PathBuf>,
    /// Rounds, in each of which every peer has its turn
    #[arg(long)]
    rounds: Option<NonZeroU32>,
    /// A small run that shows that the bench works
    #[arg(long)]
    quick: bool,
    /// Fail if a budget is exceeded
    #[arg(long)]
    pub gate: bool,
    /// Peers to measure: floor, node, leadwire, before
    #[arg(long, value_delimiter = ',')]
    peers: Vec<String>,
    /// Numbers of sockets, for cases that have several
    #[arg(long, value_delimiter = ',')]
    sockets: Vec<usize>,
    /// Numbers of plugins, for cases that have several
    #[arg(long, value_delimiter = ',')]
    plugins: Vec<usize>,
    /// Numbers of leads, for cases that read lists
    #[arg(long, value_delimiter = ',')]
    leads: Vec<usize>,
    /// Serve as the floor: writes events of this file
    #[arg(long, hide = true)]
    pub floor: Option<PathBuf>,
}

impl Options {
    /// Makes the run small in a debug build, whose figures mean nothing.
    pub fn quick(&self) -> bool {
        self.quick || cfg!(debug_assertions)
    }

    pub fn rounds(&self) -> u32 {
        self.rounds.map_or(if self.quick() { 1 } else { 3 }, NonZeroU32::get)
    }

    /// Numbers of sockets of a case.
    pub fn sizes(&self, usual: &[usize], quick: &[usize]) -> Vec<usize> {
        self.chosen(&self.sockets, usual, quick)
    }

    pub fn plugins(&self, usual: &[usize]) -> Vec<usize> {
        self.chosen(&self.plugins, usual, usual)
    }

    pub fn leads(&self, usual: &[usize], quick: &[usize]) -> Vec<usize> {
        self.chosen(&self.leads, usual, quick)
    }

    fn chosen(&self, given: &[usize], usual: &[usize], quick: &[usize]) -> Vec<usize> {
        let unset = if self.quick() { quick } else { usual };
        if given.is_empty() { unset } else { given }.to_vec()
    }

    /// Peers in the order of a round, out of those that exist and were asked for.
    pub fn kinds(&self, programs: &Programs) -> Vec<Kind> {
        let exists = |kind: &Kind| match kind {
            Kind::Before => programs.before.is_some(),
            Kind::Node => programs.node.is_some(),
            Kind::Floor | Kind::Leadwire => true,
        };
        let is_meant = |kind: &Kind| self.peers.is_empty() || self.peers.iter().any(|name| name == kind.name());
        [Kind::Floor, Kind::Node, Kind::Before, Kind::Leadwire].into_iter().filter(exists).filter(is_meant).collect()
    }

    /// The same without the floor, for cases that it has nothing for.
    pub fn servers(&self, programs: &Programs) -> Vec<Kind> {
        self.kinds(programs).into_iter().filter(|kind| *kind != Kind::Floor).collect()
    }

    /// The same without the reference server, which stores nothing.
    pub fn leadwires(&self, programs: &Programs) -> Vec<Kind> {
        self.kinds(programs).into_iter().filter(|kind| kind.is_leadwire()).collect()
    }

    pub fn unknown_peer(&self) -> Option<&str> {
        let known = ["floor", "node", "leadwire", "before"];
        self.peers.iter().map(String::as_str).find(|name| !known.contains(name))
    }

    /// Returns true if a case was named, or if none was.
    pub fn runs(&self, case: &str) -> bool {
        self.cases.is_empty() || self.cases.iter().any(|name| name == case)
    }

    pub fn unknown_case(&self, known: &[&str]) -> Option<&str> {
        self.cases.iter().map(String::as_str).find(|name| !known.contains(name))
    }
}
