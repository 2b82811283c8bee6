//! Password hashing: argon2id on blocking threads, with limited concurrency.
//!
//! Each run takes about 20 MiB and tens of milliseconds of a core. Unbounded, a burst of logins would exhaust the
//! memory of the machine and starve the delivery of events. So hashes wait in a `HashQueue`, which is bounded.

use std::{sync::Arc, thread};

use argon2::{
    Algorithm, Argon2, Params, PasswordHasher, PasswordVerifier, Version, password_hash::phc::PasswordHash as Phc,
};

use super::{
    Error,
    queue::{HashQueue, QueuePriority},
    settings::{self, LoginLimitsConfig},
};
use crate::domain::folding::opaque;

#[derive(Clone)]
pub struct Passwords {
    params: Params,
    queue: HashQueue,
    /// Hash of a random value, verified for accounts that do not exist.
    decoy: Arc<str>,
}

/// Result of a password verification.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PasswordCheck {
    Wrong,
    /// `outdated`: the stored hash was made with other costs than the configured ones.
    Right {
        outdated: bool,
    },
}

impl Passwords {
    /// Creates the hasher.
    ///
    /// # Errors
    /// When argon2 refuses these costs.
    pub fn new(costs: &settings::PasswordHashConfig) -> Result<Self, super::BadSettings> {
        let params = Params::new(costs.memory_kib, costs.iterations, costs.parallelism, None)
            .map_err(|error| super::BadSettings(format!("auth.password_hash: {error}")))?;
        let decoy = hash(&params, &rand::random::<[u8; 32]>())
            .map_err(|error| super::BadSettings(format!("auth.password_hash: {error}")))?;
        // Half of the cores, so that the rest of the server keeps the other half.
        let places = thread::available_parallelism().map_or(1, |cores| cores.get().div_ceil(2));
        let queue = HashQueue::new(places, LoginLimitsConfig::default().waiting.get() as usize);
        Ok(Self { params, queue, decoy: decoy.into() })
    }

    /// Sets the number of attempts that may wait.
    #[must_use]
    pub fn with_waiting(mut self, waiting: usize) -> Self {
        let places = thread::available_parallelism().map_or(1, |cores| cores.get().div_ceil(2));
        self.queue = HashQueue::new(places, waiting);
        self
    }

    /// Hashes a password that was set by a signed-in user or the command line.
    ///
    /// # Errors
    /// [`Error::Overloaded`] when too many attempts wait already.
    pub async fn hash(&self, password: String) -> Result<String, Error> {
        let (params, password) = (self.params.clone(), opaque(&password));
        self.run(QueuePriority::TRUSTED, move || {
            hash(&params, password.as_bytes()).map_err(|error| Error::internal("hashing", error))
        })
        .await?
    }

    /// Verifies a password against the hash of an account. Without an account it takes as long and returns `Wrong`.
    ///
    /// # Errors
    /// [`Error::Overloaded`] when too many attempts wait already.
    pub async fn verify(
        &self,
        priority: QueuePriority,
        password: String,
        stored: Option<String>,
    ) -> Result<PasswordCheck, Error> {
        let (params, decoy) = (self.params.clone(), Arc::clone(&self.decoy));
        self.run(priority, move || {
            let is_known = stored.is_some();
            let stored = stored.as_deref().unwrap_or(&decoy);
            let normal = opaque(&password);
            let mut verdict = verify(&params, normal.as_bytes(), stored);
            if verdict == PasswordCheck::Wrong && normal != password {
                // Hashed without normalisation, by an earlier version.
                let is_right = verify(&params, password.as_bytes(), stored) != PasswordCheck::Wrong;
                verdict = if is_right { PasswordCheck::Right { outdated: true } } else { PasswordCheck::Wrong };
            }
            if is_known { verdict } else { PasswordCheck::Wrong }
        })
        .await
    }

    /// The permit moves into the blocking task, so that the work of a caller who went away still counts.
    async fn run<T: Send + 'static>(
        &self,
        priority: QueuePriority,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Error> {
        let place = self.queue.turn(priority).await?;
        let task = tokio::task::spawn_blocking(move || {
            let _place = place;
            work()
        });
        task.await.map_err(|error| Error::internal("waiting for the password hash", error))
    }
}

fn hash(params: &Params, password: &[u8]) -> Result<String, argon2::password_hash::Error> {
    let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params.clone());
    argon2.hash_password(password).map(|hash| hash.to_string())
}

fn verify(params: &Params, password: &[u8], stored: &str) -> PasswordCheck {
    let Ok(stored) = Phc::new(stored) else { return PasswordCheck::Wrong };
    // Verification uses the costs of the stored hash.
    if Argon2::default().verify_password(password, &stored).is_err() {
        return PasswordCheck::Wrong;
    }
    let costs = |params: &Params| (params.m_cost(), params.t_cost(), params.p_cost());
    PasswordCheck::Right { outdated: Params::try_from(&stored).map_or(true, |used| costs(&used) != costs(params)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passwords(iterations: u32) -> Passwords {
        Passwords::new(&settings::PasswordHashConfig { memory_kib: 64, iterations, parallelism: 1 })
            .expect("valid costs")
    }

    #[tokio::test]
    async fn only_the_correct_password_is_accepted() {
        let passwords = passwords(1);
        let stored = passwords.hash("correct horse".into()).await.expect("hashes");
        assert!(stored.starts_with("$argon2id$"));
        let right =
            passwords.verify(QueuePriority::TRUSTED, "correct horse".into(), Some(stored.clone())).await.expect("runs");
        assert_eq!(right, PasswordCheck::Right { outdated: false });
        assert_eq!(
            passwords.verify(QueuePriority::TRUSTED, "wrong horse".into(), Some(stored)).await.expect("runs"),
            PasswordCheck::Wrong
        );
        assert_eq!(
            passwords.verify(QueuePriority::TRUSTED, "correct horse".into(), None).await.expect("runs"),
            PasswordCheck::Wrong
        );
        assert_eq!(
            passwords.verify(QueuePriority::TRUSTED, "x".into(), Some("not a hash".into())).await.expect("runs"),
            PasswordCheck::Wrong
        );
    }

    #[tokio::test]
    async fn a_password_matches_in_every_normal_form_and_old_hashes_stay_valid() {
        let passwords = passwords(1);
        let (composed, apart) = ("caf\u{e9} au lait", "cafe\u{301}\u{a0}au lait");
        let verify = async |password: &str, stored: &str| {
            passwords.verify(QueuePriority::TRUSTED, password.into(), Some(stored.into())).await.expect("runs")
        };
        let stored = passwords.hash(apart.into()).await.expect("hashes");
        assert_eq!(verify(composed, &stored).await, PasswordCheck::Right { outdated: false });
        assert_eq!(verify(apart, &stored).await, PasswordCheck::Right { outdated: false });
        let old = hash(&passwords.params, apart.as_bytes()).expect("hashes");
        assert_eq!(verify(apart, &old).await, PasswordCheck::Right { outdated: true });
        assert_eq!(verify("cafe au lait", &old).await, PasswordCheck::Wrong);
    }

    #[tokio::test]
    async fn a_hash_with_other_cost_parameters_is_valid_but_outdated() {
        let stored = passwords(1).hash("correct horse".into()).await.expect("hashes");
        let verdict =
            passwords(2).verify(QueuePriority::TRUSTED, "correct horse".into(), Some(stored)).await.expect("runs");
        assert_eq!(verdict, PasswordCheck::Right { outdated: true });
    }
}
