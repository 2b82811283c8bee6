//! Tests of sessions, with a clock that advances only when a test moves it.

use std::{
    num::NonZeroU32,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use uuid::Uuid;

use crate::{
    auth::{
        settings::{LoginLimitsConfig, PasswordHashConfig, Secret},
        *,
    },
    domain::{actor::ActorKind, counter::Seq, id::UserId, role::Role, time::Timestamp, user::User},
    store::{
        audit::{AuditFilter, AuditKind, Entry},
        handle::Store,
        test_database::TestDatabase,
    },
};

const EMAIL: &str = "ann@example.com";
const PASSWORD: &str = "correct horse";
const SECRET: &str = "0123456789abcdef0123456789abcdef";
const OTHER_SECRET: &str = "ffffffffffffffffffffffffffffffff";
const MINUTE: Duration = Duration::from_secs(60);

struct AuthDesk {
    auth: Auth,
    store: Arc<Store>,
    millis: Arc<AtomicI64>,
    _database: TestDatabase,
}

fn settings() -> AuthConfig {
    let plenty = NonZeroU32::new(100_000).expect("not zero");
    AuthConfig {
        jwt_secret: Some(Secret::new(SECRET)),
        password_hash: PasswordHashConfig { memory_kib: 64, iterations: 1, parallelism: 1 },
        login_limits: LoginLimitsConfig {
            per_account_per_minute: plenty,
            per_address_per_minute: plenty,
            strangers_per_account_per_minute: plenty,
            ..LoginLimitsConfig::default()
        },
        ..AuthConfig::default()
    }
}

impl AuthDesk {
    async fn open() -> Self {
        let database = TestDatabase::new();
        let store = Arc::new(database.open().await);
        let millis = Arc::new(AtomicI64::new(1_700_000_000_000));
        let desk = Self { auth: auth(&settings(), &store, &millis), store, millis, _database: database };
        let hash = desk.auth.passwords().hash(PASSWORD.into()).await.expect("hashes");
        let mut tx = desk.store.write().await.expect("writes");
        tx.insert_user(&desk.ann(), &hash).await.expect("inserts");
        tx.commit().await.expect("commits");
        desk
    }

    /// Same database with other settings, as after a restart.
    fn reopened(&self, settings: &AuthConfig) -> Auth {
        auth(settings, &self.store, &self.millis)
    }

    fn ann(&self) -> User {
        let now = self.now();
        let (email, name) = (EMAIL.to_owned(), "Ann".to_owned());
        let id = UserId(Uuid::from_u128(1));
        User { id, email, name, role: Role::Sales, active: true, created_at: now, updated_at: now }
    }

    fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.millis.load(Ordering::Relaxed)).expect("in range")
    }

    fn wait(&self, span: Duration) {
        self.millis.fetch_add(span.as_millis() as i64, Ordering::Relaxed);
    }

    async fn login(&self) -> TokenPair {
        self.auth.login(EMAIL, PASSWORD.into(), &RequestOrigin::default()).await.expect("logs in")
    }

    async fn save(&self, user: &User) {
        let mut tx = self.store.write().await.expect("writes");
        tx.save_user(user).await.expect("saves");
        tx.commit().await.expect("commits");
    }

    /// Number of events in the log that report the end of a session.
    async fn endings(&self) -> usize {
        let events = self.store.read().await.expect("reads").events_after(Seq(0), 1000).await.expect("reads");
        assert!(events.iter().all(|event| event.name == "session:ended" && event.rooms.is_empty()));
        events.len()
    }
}

/// Clock whose hand the test moves, in milliseconds.
struct Hand(Arc<AtomicI64>);

impl Clock for Hand {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.0.load(Ordering::Relaxed)).expect("in range")
    }

    fn id(&self) -> Uuid {
        Uuid::now_v7()
    }
}

fn auth(settings: &AuthConfig, store: &Arc<Store>, millis: &Arc<AtomicI64>) -> Auth {
    let millis = Arc::clone(millis);
    Auth::new(settings, Arc::clone(store), Arc::new(Hand(millis))).expect("valid settings")
}

fn is_unauthenticated<T>(result: Result<T, Error>) -> bool {
    matches!(result, Err(Error::Unauthenticated))
}

#[tokio::test]
async fn a_login_issues_a_token_for_the_user() {
    let desk = AuthDesk::open().await;
    let grant = desk.auth.login("ANN@Example.com", PASSWORD.into(), &RequestOrigin::default()).await.expect("logs in");
    let who = desk.auth.authenticate(&grant.access_token).await.expect("is good");
    assert_eq!((who.user.id, who.user.role), (desk.ann().id, Role::Sales));
    assert_eq!(who.credentials.expires_at, desk.now().plus(15 * MINUTE));
}

#[tokio::test]
async fn unknown_deactivated_and_wrong_password_fail_alike() {
    let desk = AuthDesk::open().await;
    let refused = async |email: &str, password: &str| {
        matches!(
            desk.auth.login(email, password.into(), &RequestOrigin::default()).await,
            Err(Error::InvalidCredentials)
        )
    };
    assert!(refused("nobody@example.com", PASSWORD).await);
    assert!(refused(EMAIL, "wrong horse").await);
    desk.save(&User { active: false, ..desk.ann() }).await;
    assert!(refused(EMAIL, PASSWORD).await);
}

#[tokio::test]
async fn an_access_token_is_invalid_after_its_expiry_session_end_or_deactivation() {
    let desk = AuthDesk::open().await;
    let token = desk.login().await.access_token;
    desk.wait(15 * MINUTE);
    assert!(matches!(desk.auth.authenticate(&token).await, Err(Error::TokenExpired)), "in time");

    let grant = desk.login().await;
    desk.auth.logout(grant.refresh_token).await.expect("logs out");
    assert!(is_unauthenticated(desk.auth.authenticate(&grant.access_token).await), "with its session");

    let token = desk.login().await.access_token;
    desk.save(&User { active: false, ..desk.ann() }).await;
    assert!(is_unauthenticated(desk.auth.authenticate(&token).await), "with its user");
}

#[tokio::test]
async fn the_role_comes_from_the_database() {
    let desk = AuthDesk::open().await;
    let token = desk.login().await.access_token;
    desk.save(&User { role: Role::Viewer, ..desk.ann() }).await;
    assert_eq!(desk.auth.authenticate(&token).await.expect("is good").user.role, Role::Viewer);
}

#[tokio::test]
async fn a_refresh_rotates_the_token_and_keeps_the_session() {
    let desk = AuthDesk::open().await;
    let first = desk.login().await;
    desk.wait(20 * MINUTE);
    let second = desk.auth.refresh(first.refresh_token.clone(), &RequestOrigin::default()).await.expect("refreshes");
    assert_ne!(first.refresh_token, second.refresh_token);
    let who = desk.auth.authenticate(&second.access_token).await.expect("is good");
    desk.wait(20 * MINUTE);
    let third = desk.auth.refresh(second.refresh_token, &RequestOrigin::default()).await.expect("refreshes");
    assert_eq!(
        desk.auth.authenticate(&third.access_token).await.expect("is good").credentials.session,
        who.credentials.session
    );
    assert_eq!(desk.endings().await, 0);
}

#[tokio::test]
async fn two_tabs_get_the_same_successor() {
    let desk = AuthDesk::open().await;
    let token = desk.login().await.refresh_token;
    let origin = RequestOrigin::default();
    let (left, right) =
        tokio::join!(desk.auth.refresh(token.clone(), &origin), desk.auth.refresh(token.clone(), &origin));
    let successor = left.expect("refreshes").refresh_token;
    assert_eq!(successor, right.expect("refreshes").refresh_token);
    desk.wait(Duration::from_secs(15));
    assert_eq!(successor, desk.auth.refresh(token, &RequestOrigin::default()).await.expect("refreshes").refresh_token);
}

#[tokio::test]
async fn a_reused_refresh_token_ends_its_session_once() {
    let desk = AuthDesk::open().await;
    let stolen = desk.login().await.refresh_token;
    let grant = desk.auth.refresh(stolen.clone(), &RequestOrigin::default()).await.expect("refreshes");
    desk.wait(Duration::from_millis(15_001));
    for _ in 0..2 {
        assert!(matches!(
            desk.auth.refresh(stolen.clone(), &RequestOrigin::default()).await,
            Err(Error::RefreshTokenReused)
        ));
    }
    assert!(is_unauthenticated(desk.auth.refresh(grant.refresh_token, &RequestOrigin::default()).await));
    assert!(is_unauthenticated(desk.auth.authenticate(&grant.access_token).await));
    assert_eq!(desk.endings().await, 1);
}

#[tokio::test]
async fn a_refresh_token_is_valid_for_thirty_days_and_is_not_an_access_token() {
    let desk = AuthDesk::open().await;
    let grant = desk.login().await;
    assert!(is_unauthenticated(desk.auth.authenticate(&grant.refresh_token).await));
    assert!(is_unauthenticated(desk.auth.refresh(grant.access_token, &RequestOrigin::default()).await));
    assert!(is_unauthenticated(desk.auth.refresh("never given out".into(), &RequestOrigin::default()).await));
    desk.wait(30 * 24 * 60 * MINUTE);
    assert!(is_unauthenticated(desk.auth.refresh(grant.refresh_token, &RequestOrigin::default()).await));
}

#[tokio::test]
async fn logging_out_twice_or_with_nothing_is_no_error() {
    let desk = AuthDesk::open().await;
    let token = desk.login().await.refresh_token;
    desk.auth.logout(token.clone()).await.expect("logs out");
    desk.auth.logout(token).await.expect("has nothing left to do");
    desk.auth.logout("never given out".into()).await.expect("has nothing to do");
    assert_eq!(desk.endings().await, 1);
}

#[tokio::test]
async fn logout_all_ends_every_session_with_one_event() {
    let desk = AuthDesk::open().await;
    let (one, two) = (desk.login().await, desk.login().await);
    desk.auth.logout_all(&Principal::of_account(&one.user)).await.expect("logs out");
    for grant in [one, two] {
        assert!(is_unauthenticated(desk.auth.authenticate(&grant.access_token).await));
        assert!(is_unauthenticated(desk.auth.refresh(grant.refresh_token, &RequestOrigin::default()).await));
    }
    assert_eq!(desk.endings().await, 1);
}

#[tokio::test]
async fn a_new_password_ends_the_other_sessions() {
    let desk = AuthDesk::open().await;
    let (here, there) = (desk.login().await, desk.login().await);
    let who = desk.auth.authenticate(&here.access_token).await.expect("is good");
    let who = who.principal(RequestOrigin::default());
    let change = |current: &str| desk.auth.change_password(&who, current.into(), "battery staple".into());
    assert!(matches!(change("wrong horse").await, Err(Error::WrongPassword)));
    change(PASSWORD).await.expect("changes");
    desk.auth.authenticate(&here.access_token).await.expect("this session goes on");
    assert!(is_unauthenticated(desk.auth.authenticate(&there.access_token).await));
    assert!(matches!(
        desk.auth.login(EMAIL, PASSWORD.into(), &RequestOrigin::default()).await,
        Err(Error::InvalidCredentials)
    ));
    desk.auth.login(EMAIL, "battery staple".into(), &RequestOrigin::default()).await.expect("logs in");
    assert_eq!(desk.endings().await, 1);
}

#[tokio::test]
async fn a_secret_can_be_rotated_without_ending_sessions() {
    let desk = AuthDesk::open().await;
    let grant = desk.login().await;
    let used = desk.auth.refresh(grant.refresh_token.clone(), &RequestOrigin::default()).await.expect("refreshes");
    let mut settings = settings();
    settings.jwt_secret = Some(Secret::new(OTHER_SECRET));
    let auth = desk.reopened(&settings);
    assert!(is_unauthenticated(auth.authenticate(&grant.access_token).await), "the old secret is gone");

    settings.previous_jwt_secret = Some(Secret::new(SECRET));
    let auth = desk.reopened(&settings);
    auth.authenticate(&grant.access_token).await.expect("the old secret is still accepted");
    let again = auth
        .refresh(grant.refresh_token, &RequestOrigin::default())
        .await
        .expect("the second tab still gets the same successor");
    assert_eq!(again.refresh_token, used.refresh_token);
    auth.authenticate(&again.access_token).await.expect("signed with the new secret");
}

#[tokio::test]
async fn a_login_rehashes_a_password_with_outdated_costs() {
    let desk = AuthDesk::open().await;
    let mut settings = settings();
    settings.password_hash.iterations = 2;
    desk.reopened(&settings).login(EMAIL, PASSWORD.into(), &RequestOrigin::default()).await.expect("logs in");
    let (_, hash) =
        desk.store.read().await.expect("reads").user_by_email(EMAIL).await.expect("reads").expect("is there");
    assert!(hash.contains("t=2"), "{hash}");
}

#[tokio::test]
async fn attempts_are_limited_before_any_password_is_tried() {
    let desk = AuthDesk::open().await;
    let mut settings = settings();
    settings.login_limits.per_account_per_minute = NonZeroU32::new(2).expect("not zero");
    let auth = desk.reopened(&settings);
    for _ in 0..2 {
        assert!(matches!(
            auth.login(EMAIL, "wrong horse".into(), &RequestOrigin::default()).await,
            Err(Error::InvalidCredentials)
        ));
    }
    assert!(matches!(
        auth.login(EMAIL, PASSWORD.into(), &RequestOrigin::default()).await,
        Err(Error::TooManyAttempts { .. })
    ));
}

#[tokio::test]
async fn a_caller_is_checked_against_the_current_account_session_and_token() {
    let desk = AuthDesk::open().await;
    let grant = desk.login().await;
    let caller =
        desk.auth.authenticate(&grant.access_token).await.expect("is good").principal(RequestOrigin::default());
    let judge = async |caller: &Principal| {
        let mut tx = desk.store.write().await.expect("writes");
        caller.authorize(&mut tx, desk.now()).await
    };
    assert_eq!(judge(&caller).await.expect("may act").kind, ActorKind::User(Role::Sales));
    desk.save(&User { role: Role::Viewer, ..desk.ann() }).await;
    assert_eq!(
        judge(&caller).await.expect("may act").kind,
        ActorKind::User(Role::Viewer),
        "as the database has it now"
    );
    desk.save(&User { active: false, ..desk.ann() }).await;
    assert!(is_unauthenticated(judge(&caller).await), "deactivated");
    desk.save(&desk.ann()).await;
    assert!(judge(&caller).await.is_ok());
    let of_a_key = |roles: &[Role]| {
        let credentials = Credentials {
            session: None,
            issued_at: desk.now(),
            expires_at: desk.now().plus(MINUTE),
            roles: roles.iter().copied().collect(),
        };
        Principal::of_token(&desk.ann(), credentials, RequestOrigin::default())
    };
    assert!(judge(&of_a_key(&[Role::Sales])).await.is_ok());
    assert!(is_unauthenticated(judge(&of_a_key(&[Role::Viewer])).await), "a key that does not speak for the role");

    desk.wait(15 * MINUTE);
    assert!(is_unauthenticated(judge(&caller).await), "its token has expired");
    let grant = desk.auth.refresh(grant.refresh_token, &RequestOrigin::default()).await.expect("refreshes");
    let caller =
        desk.auth.authenticate(&grant.access_token).await.expect("is good").principal(RequestOrigin::default());
    let elsewhere = of_a_key(&[Role::Sales]);
    desk.auth.logout_all(&caller).await.expect("logs out");
    assert!(is_unauthenticated(judge(&caller).await), "its session has ended");
    assert!(is_unauthenticated(judge(&elsewhere).await), "it was issued before that");
    assert!(is_unauthenticated(desk.auth.logout_all(&caller).await));
    assert!(judge(&Principal::operator()).await.is_ok());
}

#[tokio::test]
async fn a_login_or_refresh_makes_a_network_known_for_a_time_and_across_restarts() {
    let desk = AuthDesk::open().await;
    let from = |host: u8| RequestOrigin { address: Some([10, 0, 0, host].into()), request: None };
    let grant = desk.auth.login(EMAIL, PASSWORD.into(), &from(1)).await.expect("logs in");
    desk.auth.refresh(grant.refresh_token, &from(2)).await.expect("refreshes");
    let mut settings = settings();
    settings.login_limits.strangers_per_account_per_minute = NonZeroU32::new(1).expect("not zero");
    settings.login_limits.known_for = MINUTE;
    let auth = desk.reopened(&settings);
    let wrong = auth.login(EMAIL, "wrong horse".into(), &from(3)).await;
    assert!(matches!(wrong, Err(Error::InvalidCredentials)));
    let refused = auth.login(EMAIL, PASSWORD.into(), &from(4)).await;
    assert!(matches!(refused, Err(Error::TooManyAttempts { .. })), "strangers have used up what they have");
    for host in [1, 2] {
        auth.login(EMAIL, PASSWORD.into(), &from(host)).await.expect("is known there");
    }
    desk.wait(2 * MINUTE);
    let refused = auth.login(EMAIL, PASSWORD.into(), &from(1)).await;
    assert!(matches!(refused, Err(Error::TooManyAttempts { .. })), "it was known for a minute");
}

#[tokio::test]
async fn the_audit_table_is_bounded_and_keeps_administrator_actions() {
    let desk = AuthDesk::open().await;
    let mut settings = settings();
    settings.audit.keep_rows = 10;
    let auth = desk.reopened(&settings);
    for number in 0..3000_u32 {
        let address = std::net::IpAddr::from(std::net::Ipv4Addr::from_bits(number));
        auth.audit_log().note(Entry { address: Some(address), ..Entry::new(AuditKind::LoginFailed) });
    }
    auth.audit_log().flush().await.expect("flushes");
    let rows = async || {
        let mut reader = desk.store.read().await.expect("reads");
        reader.audit_rows(&AuditFilter::default(), None, 10_000).await.expect("reads")
    };
    let noted = rows().await;
    assert_eq!(noted.len(), 1001);
    assert_eq!(noted.iter().map(|row| row.count).sum::<i64>(), 3000);
    // An existing row is counted up; a minute later another row begins.
    auth.audit_log().note(Entry::new(AuditKind::LoginFailed).with("reason", "too_many_to_list"));
    auth.audit_log().flush().await.expect("flushes");
    assert_eq!(rows().await.len(), 1001);
    desk.wait(2 * MINUTE);
    auth.audit_log().flush().await.expect("flushes");
    auth.audit_log().note(Entry::new(AuditKind::LoginFailed).with("reason", "too_many_to_list"));
    auth.audit_log().flush().await.expect("flushes");
    assert_eq!(rows().await.len(), 1002);

    let mut tx = desk.store.write().await.expect("writes");
    for _ in 0..12 {
        tx.audit(&Entry::new(AuditKind::UserChanged), desk.now()).await.expect("records");
    }
    tx.commit().await.expect("commits");
    auth.audit_log().prune().await.expect("prunes");
    let stored = rows().await;
    let anonymous = stored.iter().filter(|row| row.kind == "login_failed").count();
    assert_eq!((anonymous, stored.len()), (10, 20), "each class has a limit of its own");
    desk.wait(Duration::from_secs(2 * 31_557_600));
    auth.audit_log().prune().await.expect("prunes");
    assert!(rows().await.is_empty(), "older than a year");
}
