//! Accepted TCP connection with guards: it can be cut from elsewhere, has to send something soon, and has to take what
//! it is sent.
//!
//! Once it is a WebSocket, what comes in goes through `Frames`. Everything that leaves goes through the connection's
//! gate.

use std::{
    io::{Error, ErrorKind, IoSlice, Result},
    net::IpAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::{Sleep, sleep},
};
use tokio_util::sync::WaitForCancellationFutureOwned;

use crate::transport::{
    limits::SlotGuard,
    tcp::{connection::ConnectionHandle, frames::Frames, gate::Outlet, head::HeadEnd},
};

/// Number of bytes that every request has at least. Until they are there, the timer here runs, because hyper's may
/// not.
const OPENING: usize = 24;
/// Beginning of HTTP/2. hyper, restricted to HTTP/1, keeps such a connection without any timer.
const HTTP_2: &[u8] = b"PRI *";

pub(crate) struct GuardedStream {
    stream: Arc<TcpStream>,
    connection: ConnectionHandle,
    // One per direction: they may be polled by two tasks, and a future wakes only the last task that polled it.
    read_cut: Pin<Box<WaitForCancellationFutureOwned>>,
    write_cut: Pin<Box<WaitForCancellationFutureOwned>>,
    opening: Option<Opening>,
    frames: Frames,
    /// Longest time that the client may take nothing of what it is sent; `stalled` is the timer while it takes nothing.
    patience: Duration,
    stalled: Option<Pin<Box<Sleep>>>,
    head: HeadEnd,
    is_web_socket: bool,
    /// Counts the connection for its address.
    _place: Option<SlotGuard<IpAddr>>,
}

struct Opening {
    deadline: Pin<Box<Sleep>>,
    start: Vec<u8>,
}

impl GuardedStream {
    pub(crate) fn new(
        stream: TcpStream,
        connection: ConnectionHandle,
        opening: Duration,
        patience: Duration,
        place: Option<SlotGuard<IpAddr>>,
    ) -> Self {
        let stream = Arc::new(stream);
        connection.gate().open(stream.clone());
        let cut = || Box::pin(connection.is_cut().clone().cancelled_owned());
        let opening = Opening { deadline: Box::pin(sleep(opening)), start: Vec::new() };
        Self {
            stream,
            read_cut: cut(),
            write_cut: cut(),
            opening: Some(opening),
            connection,
            frames: Frames::default(),
            patience,
            stalled: None,
            head: HeadEnd::default(),
            is_web_socket: false,
            _place: place,
        }
    }

    fn poll_writable(&mut self, cx: &mut Context<'_>) -> Result<()> {
        // A response is being written, so the opening is over, short as it may have been.
        self.opening = None;
        if !self.look_for_upgrade() {
            self.head = HeadEnd::default();
        }
        match self.write_cut.as_mut().poll(cx) {
            Poll::Ready(()) => Err(Error::new(ErrorKind::ConnectionAborted, "the connection was aborted")),
            Poll::Pending => Ok(()),
        }
    }

    /// Reads what a client sends over its WebSocket; what is not clear yet is left for the next read.
    fn poll_frames(&mut self, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<Result<()>> {
        loop {
            let ready = self.frames.hand_on(buffer.remaining());
            if !ready.is_empty() {
                buffer.put_slice(&ready);
                return Poll::Ready(Ok(()));
            }
            let before = buffer.filled().len();
            ready!(self.poll_stream(cx, buffer))?;
            let bytes = &buffer.filled()[before..];
            if bytes.is_empty() {
                return Poll::Ready(Ok(()));
            }
            self.connection.note_heard();
            let plain = self.frames.take(bytes);
            self.connection.note_packets(self.frames.counted());
            if let Some(ending) = self.frames.ending() {
                self.connection.note_ending(ending);
            }
            buffer.set_filled(before + plain);
            if plain > 0 {
                return Poll::Ready(Ok(()));
            }
        }
    }

    /// Reads from the stream, which is shared with the gate.
    fn poll_stream(&self, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<Result<()>> {
        loop {
            ready!(self.stream.poll_read_ready(cx))?;
            match self.stream.try_read_buf(buffer) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                read => return Poll::Ready(read.map(|_| ())),
            }
        }
    }

    /// Writes through the gate. A client that takes nothing for too long reads nothing: a response must not wait in
    /// memory for ever.
    fn poll_gate(&mut self, cx: &mut Context<'_>, slices: &[IoSlice<'_>]) -> Poll<Result<usize>> {
        loop {
            match self.connection.gate().write(slices, self.is_web_socket) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                written => {
                    self.stalled = None;
                    return Poll::Ready(written);
                }
            }
            if self.stream.poll_write_ready(cx)?.is_pending() {
                let patience = self.patience;
                let stalled = self.stalled.get_or_insert_with(|| Box::pin(sleep(patience)));
                ready!(stalled.as_mut().poll(cx));
                return Poll::Ready(Err(Error::new(ErrorKind::TimedOut, "the client reads nothing")));
            }
        }
    }

    /// Detects that the connection became a WebSocket, between its last request and the response to that.
    fn look_for_upgrade(&mut self) -> bool {
        if !self.is_web_socket && self.connection.is_web_socket() {
            // Frames ahead of the response, which no client may send, would be read from the middle.
            if !self.head.is_last() {
                self.connection.cut();
            }
            self.is_web_socket = true;
        }
        self.is_web_socket
    }
}

impl AsyncRead for GuardedStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<Result<()>> {
        let line = self.get_mut();
        if line.read_cut.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Ok(()));
        }
        if line.look_for_upgrade() {
            return line.poll_frames(cx, buffer);
        }
        let before = buffer.filled().len();
        let polled = line.poll_stream(cx, buffer);
        line.head.read(&buffer.filled()[before..]);
        if let Some(opening) = &mut line.opening {
            let room = OPENING - opening.start.len();
            opening.start.extend(buffer.filled()[before..].iter().take(room));
            if opening.start.starts_with(HTTP_2) {
                return Poll::Ready(Err(ErrorKind::InvalidData.into()));
            } else if opening.start.len() >= OPENING {
                line.opening = None;
            } else if opening.deadline.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Err(ErrorKind::TimedOut.into()));
            }
        }
        polled
    }
}

impl AsyncWrite for GuardedStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(self: Pin<&mut Self>, cx: &mut Context<'_>, slices: &[IoSlice<'_>]) -> Poll<Result<usize>> {
        let line = self.get_mut();
        line.poll_writable(cx)?;
        line.poll_gate(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// Nothing is kept back here that could be flushed.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<()>> {
        Poll::Ready(self.stream.finish())
    }
}

impl Drop for GuardedStream {
    fn drop(&mut self) {
        self.connection.gate().close();
    }
}
