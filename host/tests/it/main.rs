//! One binary for all integration tests: a file a topic.

mod house;
