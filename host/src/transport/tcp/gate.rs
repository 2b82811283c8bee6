//! Gate of a connection: the one lock under which bytes reach the kernel, so that a ready frame can be handed to it
//! between two frames of the engine (the short way to the wire).
//!
//! A frame that the kernel takes in part is finished before anything else is written, by whoever comes next: the
//! engine, or [`SendGate::ready`], which someone has to await while there is a rest.

use std::{
    io::{Error, ErrorKind, IoSlice, Result},
    sync::Arc,
};

use bytes::{Buf, Bytes};
use parking_lot::Mutex;
use rustix::{
    io::Errno,
    net::{Shutdown, shutdown},
};
use tokio::{net::TcpStream, sync::Notify};

use crate::transport::tcp::engine_frames::{EngineFrames, PacketCounts};

/// Largest number of frames in one write.
pub(crate) const MAX_FRAMES: usize = 16;

#[derive(Debug)]
pub(crate) struct SendGate<S = TcpStream> {
    state: Mutex<GateState<S>>,
    /// Notified when the engine has written something, and when the connection has ended.
    moved: Notify,
}

#[derive(Debug)]
struct GateState<S> {
    /// `None` before the connection begins and after its end.
    stream: Option<Arc<S>>,
    engine: EngineFrames,
    /// Set while the engine waits for the kernel to take what it has. Nothing else goes first then, or a client that
    /// reads slowly would never be sent its heartbeat.
    engine_waits: bool,
    /// Rest of a frame that the kernel took in part.
    rest: Bytes,
    /// Number of bytes that the kernel took.
    sent: u64,
}

/// Outcome of writing frames.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct FramesSent {
    /// Number of frames that were taken; the last of them may have a rest in the gate.
    pub(crate) frames: usize,
    pub(crate) has_rest: bool,
}

/// Error: no frame can be written past the engine, now or later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct GateShut;

/// Stream that takes what it has room for, and never waits.
pub(crate) trait Outlet {
    /// Writes, or fails with `WouldBlock`.
    fn try_write(&self, slices: &[IoSlice<'_>]) -> Result<usize>;

    /// Waits until there may be room.
    fn writable(&self) -> impl Future<Output = Result<()>> + Send;

    /// Says that nothing more will be written.
    fn finish(&self) -> Result<()>;
}

/// Condition of a frame's way out.
enum WayOut<S> {
    /// Nothing has to be finished before, but the kernel may take nothing.
    Clear(Arc<S>),
    /// The kernel has not taken all of another frame.
    Blocked(Arc<S>),
    /// A frame of the engine goes first.
    Engine,
}

impl Outlet for TcpStream {
    fn try_write(&self, slices: &[IoSlice<'_>]) -> Result<usize> {
        match slices {
            [slice] => self.try_write(slice),
            slices => self.try_write_vectored(slices),
        }
    }

    async fn writable(&self) -> Result<()> {
        self.writable().await
    }

    fn finish(&self) -> Result<()> {
        match shutdown(self, Shutdown::Write) {
            // The peer has closed the connection already.
            Ok(()) | Err(Errno::NOTCONN) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

impl<S> Default for SendGate<S> {
    fn default() -> Self {
        let (engine, rest) = (EngineFrames::default(), Bytes::new());
        let state = GateState { stream: None, engine, engine_waits: false, rest, sent: 0 };
        Self { state: Mutex::new(state), moved: Notify::new() }
    }
}

impl<S: Outlet> SendGate<S> {
    pub(crate) fn open(&self, stream: Arc<S>) {
        self.state.lock().stream = Some(stream);
    }

    /// Ends the connection for those who write past the engine, and lets go of the stream.
    pub(crate) fn close(&self) {
        let mut state = self.state.lock();
        (state.stream, state.rest) = (None, Bytes::new());
        drop(state);
        self.moved.notify_waiters();
    }

    /// Ends what is sent, after what was: the client sees the end of the stream. The engine can write nothing any more.
    pub(crate) fn finish(&self) {
        let mut state = self.state.lock();
        state.engine.shut();
        if let Some(stream) = &state.stream {
            // Who is gone needs no end.
            let _ = stream.finish();
        }
    }

    /// Waits until the connection has ended.
    pub(crate) async fn ended(&self) {
        loop {
            let moved = self.moved.notified();
            if self.state.lock().stream.is_none() {
                return;
            }
            moved.await;
        }
    }

    /// Writes what the engine has to send; returns the number of bytes that the kernel took. `is_web_socket` is set
    /// once a request to switch protocols was granted.
    pub(crate) fn write(&self, slices: &[IoSlice<'_>], is_web_socket: bool) -> Result<usize> {
        let mut guard = self.state.lock();
        let state = &mut *guard;
        let stream = state.stream.clone().ok_or_else(|| Error::from(ErrorKind::NotConnected))?;
        let written = state.push_rest(&stream).and_then(|()| stream.try_write(slices));
        state.engine_waits = written.as_ref().is_err_and(|error| error.kind() == ErrorKind::WouldBlock);
        let taken = written?;
        state.sent += taken as u64;
        let mut left = taken;
        for slice in slices {
            let of_slice = left.min(slice.len());
            state.engine.follow(slice, of_slice, is_web_socket);
            left -= of_slice;
        }
        drop(guard);
        self.moved.notify_waiters();
        Ok(taken)
    }

    /// Writes as many of the frames as the kernel takes, in one write, if nothing has to be finished before.
    pub(crate) fn send(&self, frames: &[&Bytes]) -> std::result::Result<FramesSent, GateShut> {
        walk_step!("send");
        let mut guard = self.state.lock();
        let state = &mut *guard;
        let stream = state.stream.as_ref().filter(|_| !state.engine.is_shut()).ok_or(GateShut)?;
        if !state.rest.is_empty() {
            return Ok(FramesSent { frames: 0, has_rest: true });
        }
        if !state.engine.is_between_frames() || state.engine_waits {
            return Ok(FramesSent::default());
        }
        let mut slices = [IoSlice::new(&[]); MAX_FRAMES];
        let count = frames.len().min(MAX_FRAMES);
        for (slice, frame) in slices.iter_mut().zip(frames) {
            *slice = IoSlice::new(frame);
        }
        let mut taken = match stream.try_write(&slices[..count]) {
            Ok(taken) => taken,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(FramesSent::default()),
            Err(_) => return Err(state.give_up()),
        };
        state.sent += taken as u64;
        let mut sent = FramesSent::default();
        for frame in frames {
            if taken == 0 {
                break;
            }
            sent.frames += 1;
            if taken < frame.len() {
                state.rest = frame.slice(taken..);
                sent.has_rest = true;
                break;
            }
            taken -= frame.len();
        }
        Ok(sent)
    }

    /// Finishes the rest of a frame, and waits until the kernel may take another.
    pub(crate) async fn ready(&self) -> std::result::Result<(), GateShut> {
        loop {
            let moved = self.moved.notified();
            match self.way_out()? {
                WayOut::Engine => moved.await,
                // The stream is held only until it ends, which the kernel reports here.
                WayOut::Blocked(stream) => stream.writable().await.map_err(|_| GateShut)?,
                WayOut::Clear(stream) => return stream.writable().await.map_err(|_| GateShut),
            }
        }
    }

    fn way_out(&self) -> std::result::Result<WayOut<S>, GateShut> {
        let mut guard = self.state.lock();
        let state = &mut *guard;
        let stream = state.stream.clone().filter(|_| !state.engine.is_shut()).ok_or(GateShut)?;
        match state.push_rest(&stream) {
            Ok(()) if state.engine.is_between_frames() && !state.engine_waits => Ok(WayOut::Clear(stream)),
            Ok(()) => Ok(WayOut::Engine),
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(WayOut::Blocked(stream)),
            Err(_) => Err(state.give_up()),
        }
    }

    /// Returns true if a frame waits to be finished.
    pub(crate) fn has_rest(&self) -> bool {
        !self.state.lock().rest.is_empty()
    }

    /// Returns true if frames cannot be written past the engine any more.
    pub(crate) fn is_shut(&self) -> bool {
        let state = self.state.lock();
        state.stream.is_none() || state.engine.is_shut()
    }

    /// Returns the number of bytes that the kernel took.
    pub(crate) fn sent(&self) -> u64 {
        self.state.lock().sent
    }

    /// Returns the packets of the engine that have left whole.
    pub(crate) fn counts(&self) -> PacketCounts {
        self.state.lock().engine.counts()
    }

    /// Notified when the engine has written something, and when the connection has ended.
    pub(crate) fn moved(&self) -> &Notify {
        &self.moved
    }
}

impl<S: Outlet> GateState<S> {
    /// Shuts the gate, because the peer is gone. The engine learns of it when it reads or writes.
    fn give_up(&mut self) -> GateShut {
        self.engine.shut();
        self.rest = Bytes::new();
        GateShut
    }

    fn push_rest(&mut self, stream: &S) -> Result<()> {
        while !self.rest.is_empty() {
            let taken = stream.try_write(&[IoSlice::new(&self.rest)])?;
            self.rest.advance(taken);
            self.sent += taken as u64;
        }
        // Lets go of the frame, which may be large.
        self.rest = Bytes::new();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use futures_util::FutureExt;
    use rand::{RngExt, SeedableRng, rngs::StdRng};

    use super::*;
    use crate::delivery::line::text_frame;

    const RESPONSE: &str = "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\n\r\n";

    /// Outlet that takes up to a given number of bytes.
    #[derive(Debug, Default)]
    struct Narrow(Mutex<NarrowState>);

    #[derive(Debug, Default)]
    struct NarrowState {
        room: usize,
        taken: Vec<u8>,
        is_gone: bool,
    }

    impl Outlet for Narrow {
        fn try_write(&self, slices: &[IoSlice<'_>]) -> Result<usize> {
            let mut state = self.0.lock();
            if state.is_gone {
                return Err(ErrorKind::ConnectionReset.into());
            }
            let offered: Vec<u8> = slices.iter().flat_map(|slice| slice.iter().copied()).collect();
            let taken = offered.len().min(state.room);
            if taken == 0 && !offered.is_empty() {
                return Err(ErrorKind::WouldBlock.into());
            }
            state.room -= taken;
            state.taken.extend_from_slice(&offered[..taken]);
            Ok(taken)
        }

        async fn writable(&self) -> Result<()> {
            if self.0.lock().room == 0 { pending().await } else { Ok(()) }
        }

        fn finish(&self) -> Result<()> {
            Ok(())
        }
    }

    /// Writes what the engine has left, as far as there is room.
    fn write(gate: &SendGate<Narrow>, left: &mut &[u8]) {
        while !left.is_empty() {
            match gate.write(&[IoSlice::new(left)], true) {
                Ok(taken) => *left = &left[taken..],
                Err(error) => return assert_eq!(error.kind(), ErrorKind::WouldBlock),
            }
        }
    }

    /// Returns the texts of the frames.
    fn texts(mut bytes: &[u8]) -> Vec<String> {
        let mut texts = Vec::new();
        while let [first, second, rest @ ..] = bytes {
            assert_eq!(*first, 0x81, "a frame begins where another has ended");
            let (length, rest) = match second {
                126 => (usize::from(u16::from_be_bytes([rest[0], rest[1]])), &rest[2..]),
                short => (usize::from(*short), rest),
            };
            texts.push(String::from_utf8(rest[..length].to_vec()).expect("text"));
            bytes = &rest[length..];
        }
        texts
    }

    #[test]
    fn frames_of_the_engine_and_of_others_stay_whole_and_in_order_however_little_the_kernel_takes() {
        let seed = rand::random();
        println!("seed {seed}");
        let mut random = StdRng::seed_from_u64(seed);
        let mut went_past = 0;
        for largest in [1, 2, 3, 10, 200, 2000] {
            let (gate, outlet) = (SendGate::<Narrow>::default(), Arc::new(Narrow::default()));
            gate.open(outlet.clone());
            let text = |random: &mut StdRng, name: &str, number: usize| {
                format!("42[\"{name}{number}\",\"{}\"]", "x".repeat(random.random_range(0..300)))
            };
            let engine_texts: Vec<String> = (0..60).map(|number| text(&mut random, "engine", number)).collect();
            let engine: Vec<u8> = engine_texts.iter().flat_map(|text| text_frame(&[text]).to_vec()).collect();
            let bytes = [RESPONSE.as_bytes(), &engine].concat();
            let (mut offered, mut left) = (0, &bytes[..0]);
            let mut sent_texts = Vec::new();
            while offered < bytes.len() || !left.is_empty() {
                outlet.0.lock().room += random.random_range(0..=largest);
                if random.random_bool(0.5) {
                    if left.is_empty() {
                        let first = RESPONSE.len();
                        let upto =
                            if offered == 0 { first } else { bytes.len().min(offered + random.random_range(1..400)) };
                        (offered, left) = (upto, &bytes[offered..upto]);
                    }
                    write(&gate, &mut left);
                } else {
                    let count = random.random_range(1..=MAX_FRAMES);
                    let texts: Vec<_> =
                        (0..count).map(|number| text(&mut random, "ours", sent_texts.len() + number)).collect();
                    let frames: Vec<Bytes> = texts.iter().map(|text| text_frame(&[text])).collect();
                    let sent = gate.send(&frames.iter().collect::<Vec<_>>()).expect("it is open");
                    sent_texts.extend_from_slice(&texts[..sent.frames]);
                    assert_eq!(sent.has_rest, gate.has_rest());
                }
            }
            outlet.0.lock().room = usize::MAX / 2;
            assert!(matches!(gate.way_out(), Ok(WayOut::Clear(_))), "the rest leaves");
            let taken = std::mem::take(&mut outlet.0.lock().taken);
            assert_eq!(gate.sent(), taken.len() as u64);
            let frames = taken.strip_prefix(RESPONSE.as_bytes()).expect("the response comes first");
            let (of_engine, ours): (Vec<_>, Vec<_>) =
                texts(frames).into_iter().partition(|text| text.starts_with("42[\"engine"));
            assert_eq!(of_engine, engine_texts);
            assert_eq!(ours, sent_texts);
            assert_eq!(gate.counts().messages, 60);
            went_past += ours.len();
        }
        assert!(went_past > 0);
    }

    /// Gate between frames, with an outlet without room.
    fn opened() -> (SendGate<Narrow>, Arc<Narrow>) {
        let (gate, outlet) = (SendGate::<Narrow>::default(), Arc::new(Narrow::default()));
        gate.open(outlet.clone());
        outlet.0.lock().room = RESPONSE.len();
        write(&gate, &mut RESPONSE.as_bytes());
        (gate, outlet)
    }

    #[test]
    fn who_waits_for_a_full_kernel_waits_whether_it_took_a_part_or_nothing() {
        let frame = text_frame(&["42[]"]);
        for room in [0, 1] {
            let (gate, outlet) = opened();
            outlet.0.lock().room = room;
            assert_eq!(gate.send(&[&frame]), Ok(FramesSent { frames: room, has_rest: room > 0 }));
            assert_eq!(gate.ready().now_or_never(), None, "nothing has room");
            outlet.0.lock().room = 100;
            assert_eq!(gate.ready().now_or_never(), Some(Ok(())));
            assert!(!gate.has_rest());
        }
    }

    #[test]
    fn the_gate_of_a_peer_that_is_gone_is_shut() {
        let frame = text_frame(&["42[]"]);
        for room in [0, 1] {
            let (gate, outlet) = opened();
            outlet.0.lock().room = room;
            let _ = gate.send(&[&frame]);
            outlet.0.lock().is_gone = true;
            if room == 0 {
                assert_eq!(gate.send(&[&frame]), Err(GateShut));
            } else {
                assert_eq!(gate.ready().now_or_never(), Some(Err(GateShut)));
            }
            assert!(gate.is_shut() && !gate.has_rest());
        }
    }

    #[test]
    fn an_engine_that_waits_goes_first() {
        let (gate, outlet) = opened();
        let (ping, frame) = (text_frame(&["2"]), text_frame(&["42[]"]));
        let mut left = &*ping;
        write(&gate, &mut left);
        outlet.0.lock().room = 100;
        assert_eq!(gate.send(&[&frame]), Ok(FramesSent::default()));
        assert_eq!(gate.ready().now_or_never(), None);
        write(&gate, &mut left);
        assert_eq!(gate.ready().now_or_never(), Some(Ok(())));
        assert_eq!(gate.send(&[&frame]), Ok(FramesSent { frames: 1, has_rest: false }));
    }

    #[test]
    fn nothing_is_written_past_an_engine_that_has_ended_or_a_connection_that_is_gone() {
        let (gate, outlet) = (SendGate::<Narrow>::default(), Arc::new(Narrow::default()));
        let frame = text_frame(&["42[]"]);
        assert_eq!(gate.send(&[&frame]), Err(GateShut));
        gate.open(outlet.clone());
        outlet.0.lock().room = 10_000;
        assert_eq!(gate.send(&[&frame]), Ok(FramesSent::default()), "there are no frames before the upgrade");
        write(&gate, &mut RESPONSE.as_bytes());
        assert_eq!(gate.send(&[&frame]), Ok(FramesSent { frames: 1, has_rest: false }));
        write(&gate, &mut &*text_frame(&["41"]));
        assert_eq!(gate.send(&[&frame]), Err(GateShut));
        gate.close();
        assert!(gate.write(&[IoSlice::new(b"x")], true).is_err() && gate.is_shut());
    }
}
