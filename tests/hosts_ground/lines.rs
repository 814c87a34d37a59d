//! A proxy is slow, silent and cut.

use super::hosts::Line;
use super::{POURED, ask, echo, is_reset, is_silent, pour};
use site_recovery::{Clock, SystemClock};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

/// What sends back what comes, in this process.
fn echo_here() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || echo(listener));
    address
}

fn line() -> (Line, TcpStream) {
    let line = Line::open((Ipv4Addr::LOCALHOST, 0).into(), echo_here());
    let stream = TcpStream::connect(line.address()).unwrap();
    (line, stream)
}

#[test]
fn a_line_is_slow_silent_and_cut() {
    let (line, mut stream) = line();
    assert_eq!(ask(&mut stream, "before"), "before");
    let delay = Duration::from_millis(150);
    line.delay(delay);
    let began = SystemClock.now();
    assert_eq!(ask(&mut stream, "slow"), "slow");
    assert!(SystemClock.now().since(began) >= 2 * delay);
    // Far more than one piece for each delay: all of it is on its way at once.
    let took = pour(line.address());
    assert!(took < 20 * delay, "a delay of {delay:?} is no limit, but {POURED} bytes took {took:?}");
    line.delay(Duration::ZERO);

    line.pause();
    stream.write_all(b"held").unwrap();
    is_silent(&stream);
    let mut new = TcpStream::connect(line.address()).unwrap();
    new.write_all(b"new").unwrap();
    is_silent(&new);
    line.resume();
    let mut answer = [0; 4];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"held");
    new.read_exact(&mut answer[..3]).unwrap();
    assert_eq!(&answer[..3], b"new");

    line.cut();
    is_reset(&mut stream);
    is_reset(&mut new);
    let mut stream = TcpStream::connect(line.address()).unwrap();
    assert_eq!(ask(&mut stream, "after"), "after");
    // An end is passed on, too.
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(stream.read_to_end(&mut vec![]).unwrap(), 0);
}

#[test]
fn a_line_is_cut_after_so_many_bytes() {
    let (line, mut stream) = line();
    let (before, bytes) = (line.passed(), 100_000);
    line.cut_after(bytes);
    let mut writing = stream.try_clone().unwrap();
    let writer = thread::spawn(move || writing.write_all(&vec![7; POURED]));
    is_reset(&mut stream);
    let _cut_off_on_its_way = writer.join().unwrap();
    assert_eq!(line.passed() - before, bytes);
    let mut stream = TcpStream::connect(line.address()).unwrap();
    assert_eq!(ask(&mut stream, "after"), "after");
    let address = line.address();
    drop(line);
    is_reset(&mut stream);
    assert!(TcpStream::connect(address).is_err());
}
