//! Frames of the daemon's control socket: a little-endian `u32` length, that many bytes of JSON, and file
//! descriptors that ride on the first byte. Both ends use this one codec; what the frames mean is in
//! [`super::control`].
//!
//! A receiver names the most descriptors that it takes. Surplus ones, and those that ride on a later byte, are
//! closed and the frame is refused, so that a peer cannot fill a descriptor table. Memory grows with the
//! bytes that have arrived, not with the length that the peer claims.

use super::control::MAX_FRAME;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use serde::{Serialize, de::DeserializeOwned};
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use zeroize::Zeroizing;

/// Most descriptors that one frame can carry.
pub const MAX_DESCRIPTORS: usize = 8;

/// Bytes read at once; also how much memory a claimed length alone can claim.
const STEP: usize = 64 << 10;

/// Why no frame was received. After any of these the connection is out of step and must be closed.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// The peer closed the connection inside a frame.
    #[error("the connection ended inside a frame")]
    Truncated,
    /// The frame is longer than [`MAX_FRAME`].
    #[error("the frame of {0} bytes is longer than the limit of {MAX_FRAME}")]
    TooLarge(usize),
    /// The frame carries more descriptors than expected, or carries them in the wrong place.
    #[error("the frame carries more file descriptors than the request takes")]
    TooManyDescriptors,
    /// The frame is not the JSON that was expected.
    #[error("the frame is not a message of this protocol: {0}")]
    Json(#[from] serde_json::Error),
    /// The socket failed, or its read timeout passed.
    #[error("failed to read from the socket: {0}")]
    Io(#[from] io::Error),
}

/// Sends `message` with `descriptors` riding on its first byte.
///
/// # Errors
/// `InvalidInput` when the message is longer than [`MAX_FRAME`], carries more than [`MAX_DESCRIPTORS`] or is not
/// JSON; otherwise what the socket says. A peer that has gone is `BrokenPipe`, never a signal.
pub fn send_frame(
    stream: &UnixStream,
    message: &impl Serialize,
    descriptors: &[BorrowedFd<'_>],
) -> io::Result<()> {
    let refused = |why: &str| io::Error::new(io::ErrorKind::InvalidInput, why.to_owned());
    if descriptors.len() > MAX_DESCRIPTORS {
        return Err(refused("too many file descriptors for one frame"));
    }
    // Frames carry passwords: their buffers are wiped, and small ones do not move while they are written.
    let mut frame = Zeroizing::new(Vec::with_capacity(4096));
    frame.extend_from_slice(&[0; 4]);
    serde_json::to_writer(&mut *frame, message).map_err(|error| refused(&error.to_string()))?;
    let length = frame.len() - 4;
    if length > MAX_FRAME {
        return Err(refused("the message is longer than a frame can be"));
    }
    let prefix = u32::try_from(length).map_err(|error| refused(&error.to_string()))?.to_le_bytes();
    for (place, byte) in frame.iter_mut().zip(prefix) {
        *place = byte;
    }

    let mut rest = frame.as_slice();
    let mut descriptors = descriptors;
    while !rest.is_empty() {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        if !descriptors.is_empty() && !ancillary.push(SendAncillaryMessage::ScmRights(descriptors)) {
            return Err(refused("too many file descriptors for one frame"));
        }
        match sendmsg(stream, &[IoSlice::new(rest)], &mut ancillary, SendFlags::NOSIGNAL) {
            Ok(sent) => {
                rest = rest.get(sent..).unwrap_or_default();
                descriptors = &[];
            }
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Receives one message and at most `most_descriptors` descriptors (close-on-exec). `None` when the peer closed
/// the connection between frames.
///
/// # Errors
/// [`FrameError`]; the connection must then be closed.
pub fn receive_frame<T: DeserializeOwned>(
    stream: &UnixStream,
    most_descriptors: usize,
) -> Result<Option<(T, Vec<OwnedFd>)>, FrameError> {
    let mut prefix = [0; 4];
    let (first, descriptors) = receive_first(stream, &mut prefix)?;
    if first == 0 {
        return Ok(None);
    }
    if descriptors.len() > most_descriptors {
        return Err(FrameError::TooManyDescriptors);
    }
    receive_exact(stream, prefix.get_mut(first..).unwrap_or_default())?;

    let length = u32::from_le_bytes(prefix) as usize;
    if length > MAX_FRAME {
        return Err(FrameError::TooLarge(length));
    }
    let mut body = Zeroizing::new(Vec::new());
    while body.len() < length {
        let have = body.len();
        body.resize(length.min(have + STEP), 0);
        receive_exact(stream, body.get_mut(have..).unwrap_or_default())?;
    }
    Ok(Some((serde_json::from_slice(&body)?, descriptors)))
}

/// Reads the start of a frame with its descriptors. 0 bytes is the end of the stream.
fn receive_first(stream: &UnixStream, buffer: &mut [u8]) -> Result<(usize, Vec<OwnedFd>), FrameError> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let received = loop {
        match recvmsg(stream, &mut [IoSliceMut::new(buffer)], &mut ancillary, RecvFlags::CMSG_CLOEXEC) {
            Err(rustix::io::Errno::INTR) => {}
            other => break other.map_err(io::Error::from)?,
        }
    };
    let mut descriptors = Vec::new();
    for message in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            descriptors.extend(rights);
        }
    }
    if received.flags.contains(ReturnFlags::CTRUNC) {
        return Err(FrameError::TooManyDescriptors);
    }
    Ok((received.bytes, descriptors))
}

/// Fills `buffer`. With no room for descriptors the kernel closes any that ride here and says so.
fn receive_exact(stream: &UnixStream, mut buffer: &mut [u8]) -> Result<(), FrameError> {
    while !buffer.is_empty() {
        let mut none = RecvAncillaryBuffer::default();
        match recvmsg(stream, &mut [IoSliceMut::new(buffer)], &mut none, RecvFlags::CMSG_CLOEXEC) {
            Ok(received) if received.flags.contains(ReturnFlags::CTRUNC) => {
                return Err(FrameError::TooManyDescriptors);
            }
            Ok(received) if received.bytes == 0 => return Err(FrameError::Truncated),
            Ok(received) => buffer = buffer.get_mut(received.bytes..).unwrap_or_default(),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(FrameError::Io(error.into())),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::control::{Event, Request};
    use proptest::prelude::*;
    use std::fs::File;
    use std::io::{Read, Seek, Write};
    use std::os::fd::AsFd;

    fn pair() -> (UnixStream, UnixStream) {
        UnixStream::pair().unwrap()
    }

    #[test]
    fn messages_and_descriptors_arrive_in_order() {
        let (left, right) = pair();
        let mut file = tempfile::tempfile().unwrap();
        file.write_all("帳".as_bytes()).unwrap();
        send_frame(&left, &Request::Info { name: "甲".into() }, &[file.as_fd()]).unwrap();
        send_frame(&left, &Request::Whoami, &[]).unwrap();
        let (first, descriptors) = receive_frame::<Request>(&right, 1).unwrap().unwrap();
        assert!(matches!(first, Request::Info { name } if name == "甲"));
        let mut received = File::from(descriptors.into_iter().next().unwrap());
        received.rewind().unwrap();
        let mut text = String::new();
        received.read_to_string(&mut text).unwrap();
        assert_eq!(text, "帳");
        let flags = rustix::io::fcntl_getfd(&received).unwrap();
        assert!(flags.contains(rustix::io::FdFlags::CLOEXEC));
        let (second, descriptors) = receive_frame::<Request>(&right, 1).unwrap().unwrap();
        assert!(matches!(second, Request::Whoami) && descriptors.is_empty());
        drop(left);
        assert!(receive_frame::<Request>(&right, 1).unwrap().is_none());
    }

    #[test]
    fn the_largest_frame_passes_in_pieces_and_a_larger_one_does_not() {
        let (left, right) = pair();
        let text = "x".repeat(MAX_FRAME - 2);
        let sender = std::thread::spawn({
            let text = text.clone();
            move || send_frame(&left, &text, &[])
        });
        let (received, _) = receive_frame::<String>(&right, 0).unwrap().unwrap();
        sender.join().unwrap().unwrap();
        assert_eq!(received, text);

        let (left, right) = pair();
        let refused = send_frame(&left, &"x".repeat(MAX_FRAME - 1), &[]).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::InvalidInput);
        (&left).write_all(&u32::MAX.to_le_bytes()).unwrap();
        assert!(matches!(receive_frame::<String>(&right, 0), Err(FrameError::TooLarge(_))));
    }

    #[test]
    fn surplus_descriptors_are_refused_and_closed() {
        let file = tempfile::tempfile().unwrap();
        for count in [2, MAX_DESCRIPTORS] {
            let (left, right) = pair();
            send_frame(&left, &Request::Whoami, &vec![file.as_fd(); count]).unwrap();
            assert!(matches!(receive_frame::<Request>(&right, 1), Err(FrameError::TooManyDescriptors)));
        }
        let (left, _right) = pair();
        assert!(send_frame(&left, &Request::Whoami, &[file.as_fd(); MAX_DESCRIPTORS + 1]).is_err());
    }

    #[test]
    fn descriptors_on_a_later_byte_are_refused() {
        let (left, right) = pair();
        let file = tempfile::tempfile().unwrap();
        (&left).write_all(&2_u32.to_le_bytes()).unwrap();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        let rights = [file.as_fd()];
        assert!(ancillary.push(SendAncillaryMessage::ScmRights(&rights)));
        sendmsg(&left, &[IoSlice::new(b"{}")], &mut ancillary, SendFlags::empty()).unwrap();
        assert!(matches!(receive_frame::<serde_json::Value>(&right, 1), Err(FrameError::TooManyDescriptors)));
    }

    #[test]
    fn a_cut_frame_and_a_gone_peer_are_told_apart() {
        let (left, right) = pair();
        (&left).write_all(&10_u32.to_le_bytes()).unwrap();
        (&left).write_all(b"{").unwrap();
        drop(left);
        assert!(matches!(receive_frame::<Request>(&right, 0), Err(FrameError::Truncated)));

        let (left, right) = pair();
        drop(right);
        let gone = send_frame(&left, &Request::Whoami, &[]).unwrap_err();
        assert_eq!(gone.kind(), io::ErrorKind::BrokenPipe);
    }

    proptest! {
        #[test]
        fn garbage_never_becomes_a_message_and_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..256)) {
            let (left, right) = pair();
            (&left).write_all(&bytes).unwrap();
            drop(left);
            let result = receive_frame::<Event>(&right, 0);
            prop_assert!(bytes.is_empty() == matches!(result, Ok(None)));
            prop_assert!(!matches!(result, Ok(Some(_))));
        }

        #[test]
        fn garbage_of_the_right_length_is_refused(bytes in proptest::collection::vec(any::<u8>(), 0..256)) {
            let (left, right) = pair();
            (&left).write_all(&u32::try_from(bytes.len()).unwrap().to_le_bytes()).unwrap();
            (&left).write_all(&bytes).unwrap();
            prop_assert!(matches!(receive_frame::<Request>(&right, 0), Err(FrameError::Json(_))));
        }
    }
}
