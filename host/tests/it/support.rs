//! A complete server on a free port with its own database, and clients for it.

use std::{
    num::NonZeroU32,
    path::{Path, PathBuf},
    process::Command,
};

use leadwire::{
    app::App,
    auth::{Principal, settings::Secret},
    config::Config,
    domain::{
        role::Role,
        user::{NewUser, User},
    },
    server::Server,
    store::Store,
};
use reqwest::{Method, StatusCode, header::HeaderMap};
use serde_json::{Value, json};
use tempfile::TempDir;

pub const SECRET: &str = "a secret that only tests may know";
pub const PASSWORD: &str = "correct horse battery";

/// A server with one user of each role.
pub struct TestApp {
    pub server: Server,
    pub url: String,
    pub dir: TempDir,
    http: reqwest::Client,
    users: Vec<(User, String)>,
}

impl TestApp {
    pub async fn start() -> Self {
        Self::with(|_| {}).await
    }

    /// Starts with changed settings.
    pub async fn with(change: impl FnOnce(&mut Config)) -> Self {
        let mut app = Self::without_users(change).await;
        for role in Role::ALL {
            let user = app.add_user(&role.as_str().to_lowercase(), role).await;
            let token = app.login(&user.email).await;
            app.users.push((user, token));
        }
        app
    }

    /// Starts without any account.
    pub async fn without_users(change: impl FnOnce(&mut Config)) -> Self {
        let dir = TempDir::new().expect("a temporary folder");
        let server = Server::start(config(&dir, change)).await.expect("starts");
        let url = format!("http://{}", server.address());
        Self { server, url, dir, http: http_client(), users: Vec::new() }
    }

    /// Restarts on the same files with the default test settings.
    pub async fn restart(self) -> Self {
        self.restart_with(|_| {}).await
    }

    /// Restarts on the same files with changed settings.
    pub async fn restart_with(self, change: impl FnOnce(&mut Config)) -> Self {
        let Self { server, dir, http, users, .. } = self;
        server.shutdown().await.expect("stops");
        let server = Server::start(config(&dir, change)).await.expect("starts again");
        let url = format!("http://{}", server.address());
        Self { server, url, dir, http, users }
    }

    /// Starts on the files of another server, without any session.
    pub async fn reopen(dir: TempDir) -> Self {
        let server = Server::start(config(&dir, |_| {})).await.expect("starts again");
        let url = format!("http://{}", server.address());
        Self { server, url, dir, http: http_client(), users: Vec::new() }
    }

    pub fn app(&self) -> &App {
        self.server.app()
    }

    /// Creates an account `<name>@example.com`.
    pub async fn add_user(&self, name: &str, role: Role) -> User {
        let email = format!("{name}@example.com");
        let new = NewUser { email, name: name.into(), role, active: true, password: PASSWORD.into() };
        self.app().create_user(&Principal::operator(), new, None).await.expect("creates a user")
    }

    /// An access token of a new session.
    pub async fn login(&self, email: &str) -> String {
        let body = json!({"email": email, "password": PASSWORD});
        let reply = self.anonymous().post("/api/auth/login", body).await.expect(StatusCode::OK);
        reply["accessToken"].as_str().expect("a token").to_owned()
    }

    /// The first user of a role.
    pub fn user(&self, role: Role) -> &User {
        &self.users.iter().find(|(user, _)| user.role == role).expect("one of each role").0
    }

    pub fn token(&self, role: Role) -> &str {
        &self.users.iter().find(|(user, _)| user.role == role).expect("one of each role").1
    }

    /// The first user of a role, signed in.
    pub fn client(&self, role: Role) -> Client {
        self.with_token(self.token(role))
    }

    pub fn with_token(&self, token: &str) -> Client {
        Client { token: Some(token.to_owned()), ..self.anonymous() }
    }

    pub fn anonymous(&self) -> Client {
        Client { http: self.http.clone(), url: self.url.clone(), token: None }
    }

    /// A new lead created by the administrator, without an owner.
    pub async fn lead(&self, body: Value) -> Value {
        self.client(Role::Admin).post("/api/leads", body).await.expect(StatusCode::CREATED)
    }
}

/// The command line in a folder, without settings from the environment except the WebAssembly toolchain.
pub fn leadwire(dir: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_leadwire"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("LEADWIRE_") && name != "LEADWIRE_WASM_TOOLCHAIN" {
            command.env_remove(name);
        }
    }
    command.current_dir(dir);
    command
}

/// Test settings: cheap password hashes, high login limits, a database in `dir`.
fn config(dir: &TempDir, change: impl FnOnce(&mut Config)) -> Config {
    let plenty = NonZeroU32::new(100_000).expect("not zero");
    let mut config = Config {
        listen: ([127, 0, 0, 1], 0).into(),
        database: database(dir.path()).display().to_string(),
        data_dir: Some(dir.path().join("data")),
        ..Config::default()
    };
    let plugins = dir.path().join("plugins");
    std::fs::create_dir_all(&plugins).expect("makes the plugin folder");
    config.plugins.dir = Some(plugins);
    config.plugins.data_dir = dir.path().join("data");
    config.auth.jwt_secret = Some(Secret::new(SECRET));
    config.auth.password_hash.memory_kib = 64;
    config.auth.password_hash.iterations = 1;
    config.auth.login_limits.per_account_per_minute = plenty;
    config.auth.login_limits.per_address_per_minute = plenty;
    config.auth.login_limits.strangers_per_account_per_minute = plenty;
    config.auth.login_limits.waiting = plenty;
    change(&mut config);
    config
}

/// The database of a server whose home is `home`, as `leadwire` and these tests name it.
fn database(home: &Path) -> PathBuf {
    home.join("leadwire.db")
}

/// Opens the database of a server that has stopped, or makes one: the one place that decides which engine that is.
pub async fn open_store(home: &Path) -> Store {
    Store::open(&database(home).into()).await.expect("a store")
}

/// An HTTP client.
#[derive(Clone)]
pub struct Client {
    http: reqwest::Client,
    url: String,
    token: Option<String>,
}

impl Client {
    /// A request that can still be changed.
    pub fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        let request = self.http.request(method, format!("{}{path}", self.url));
        match &self.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        }
    }

    pub async fn get(&self, path: &str) -> Reply {
        send(self.request(Method::GET, path)).await
    }

    pub async fn post(&self, path: &str, body: Value) -> Reply {
        send(self.request(Method::POST, path).json(&body)).await
    }

    pub async fn patch(&self, path: &str, body: Value) -> Reply {
        send(self.request(Method::PATCH, path).json(&body)).await
    }

    pub async fn delete(&self, path: &str) -> Reply {
        send(self.request(Method::DELETE, path)).await
    }

    /// Every item of a list, page by page.
    pub async fn walk(&self, path: &str) -> Vec<Value> {
        let separator = if path.contains('?') { '&' } else { '?' };
        let (mut items, mut cursor) = (Vec::new(), String::new());
        loop {
            let page = self.get(&format!("{path}{separator}cursor={cursor}")).await.expect(StatusCode::OK);
            items.extend(page["items"].as_array().expect("items").iter().cloned());
            let Some(next) = page["nextCursor"].as_str() else { return items };
            next.clone_into(&mut cursor);
        }
    }
}

/// A response. `body` is null if there was none.
#[derive(Debug)]
pub struct Reply {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Value,
}

impl Reply {
    /// The body, if the status is this one.
    #[track_caller]
    pub fn expect(self, status: StatusCode) -> Value {
        assert_eq!(self.status, status, "{}", self.body);
        self.body
    }

    /// Checks a refusal: its status, code and problem format.
    #[track_caller]
    pub fn refused(self, status: u16, code: &str) -> Value {
        let Self { status: found, headers, body } = self;
        assert_eq!((found.as_u16(), body["code"].as_str()), (status, Some(code)), "{body}");
        assert_eq!(headers["content-type"], "application/problem+json");
        assert_eq!(body["status"], status);
        assert_eq!(body["requestId"].as_str(), headers["x-request-id"].to_str().ok());
        for member in ["type", "title", "detail"] {
            assert!(body[member].as_str().is_some_and(|text| !text.is_empty()), "{member}: {body}");
        }
        body
    }

    #[track_caller]
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).unwrap_or_else(|| panic!("no {name} in {:?}", self.headers)).to_str().expect("is text")
    }
}

/// A client for plain HTTP; it trusts no certificate, so that none needs to be installed.
pub fn http_client() -> reqwest::Client {
    http_builder().build().expect("a client")
}

pub fn http_builder() -> reqwest::ClientBuilder {
    // A crypto provider is required even without encryption. Another test may have installed one.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder().tls_certs_only([])
}

pub async fn send(request: reqwest::RequestBuilder) -> Reply {
    let response = request.send().await.expect("is answered");
    let (status, headers) = (response.status(), response.headers().clone());
    let bytes = response.bytes().await.expect("is answered whole");
    let body = if bytes.is_empty() { Value::Null } else { serde_json::from_slice(&bytes).expect("is JSON") };
    Reply { status, headers, body }
}
