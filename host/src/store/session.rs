//! Logins and their refresh tokens.
