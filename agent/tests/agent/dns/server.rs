//! A name server on loopback that does whatever its script says.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread::{JoinHandle, spawn};

use hickory_proto::op::{Edns, Message, MessageType};
use hickory_proto::rr::rdata::{A, CNAME};
use hickory_proto::rr::{Name, RData, Record};
use socket2::{Domain, Socket, Type};

/// A server that ends with this value.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    /// Keeps its TCP port from everybody else; connections to it are refused until somebody listens.
    tcp: Socket,
    stopping: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

/// A question as the server got it, and the way back.
pub(crate) struct Asked<'a> {
    pub(crate) message: Message,
    socket: &'a UdpSocket,
    pub(crate) from: SocketAddr,
}

impl Server {
    /// Hands each UDP question to `script`. Nobody listens at its TCP port.
    pub(crate) fn udp(script: impl FnMut(&Asked<'_>) + Send + 'static) -> Self {
        Self::at(Ipv4Addr::LOCALHOST.into(), script)
    }

    /// The same at an address of loopback.
    pub(crate) fn at(address: IpAddr, mut script: impl FnMut(&Asked<'_>) + Send + 'static) -> Self {
        let (socket, tcp) = sockets(address);
        let address = socket.local_addr().unwrap();
        let stopping = Arc::new(AtomicBool::new(false));
        let stop = Arc::clone(&stopping);
        let serve = move || {
            let mut room = [0; 2_000];
            loop {
                let (length, from) = socket.recv_from(&mut room).unwrap();
                if stop.load(SeqCst) {
                    return;
                }
                let message = Message::from_vec(&room[..length]).unwrap();
                script(&Asked { message, socket: &socket, from });
            }
        };
        Self { address, tcp, stopping, threads: vec![spawn(serve)] }
    }

    /// Answers each UDP question with these bytes, built from it.
    pub(crate) fn replying(mut reply: impl FnMut(&Message) -> Vec<u8> + Send + 'static) -> Self {
        Self::udp(move |asked| asked.send(&reply(&asked.message)))
    }

    /// Hands each connection to its TCP port to `script`, too.
    pub(crate) fn and_tcp(mut self, mut script: impl FnMut(TcpStream) + Send + 'static) -> Self {
        self.tcp.listen(16).unwrap();
        let listener = TcpListener::from(self.tcp.try_clone().unwrap());
        let stop = Arc::clone(&self.stopping);
        let serve = move || {
            for stream in listener.incoming() {
                if stop.load(SeqCst) {
                    return;
                }
                script(stream.unwrap());
            }
        };
        self.threads.push(spawn(serve));
        self
    }
}

/// Sockets of both kinds with one port number: tests run side by side, so a port that is free by one may be taken by the other.
fn sockets(address: IpAddr) -> (UdpSocket, Socket) {
    let pair = || {
        let tcp = Socket::new(Domain::for_address((address, 0).into()), Type::STREAM, None).unwrap();
        tcp.bind(&SocketAddr::from((address, 0)).into()).unwrap();
        let port = tcp.local_addr().unwrap().as_socket().unwrap().port();
        Some((UdpSocket::bind((address, port)).ok()?, tcp))
    };
    (0..100).find_map(|_| pair()).expect("a port that is free by UDP and TCP")
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stopping.store(true, SeqCst);
        let socket = UdpSocket::bind((self.address.ip(), 0)).unwrap();
        socket.send_to(b"stop", self.address).unwrap();
        // Refused if nobody listens.
        let _ = TcpStream::connect(self.address);
        for thread in self.threads.drain(..) {
            let ended = thread.join();
            assert!(ended.is_ok() || std::thread::panicking(), "the name server's script failed");
        }
    }
}

impl Asked<'_> {
    /// Sends bytes back from the address that was asked.
    pub(crate) fn send(&self, bytes: &[u8]) {
        self.socket.send_to(bytes, self.from).unwrap();
    }
}

/// Reads one question from a connection; the script may then write what it wants.
pub(crate) fn read_question(stream: &mut TcpStream) -> Message {
    let mut length = [0; 2];
    stream.read_exact(&mut length).unwrap();
    let mut bytes = vec![0; u16::from_be_bytes(length).into()];
    stream.read_exact(&mut bytes).unwrap();
    Message::from_vec(&bytes).unwrap()
}

/// Writes a message with its length in front. The other side may be gone.
pub(crate) fn write_message(stream: &mut TcpStream, bytes: &[u8]) -> io::Result<()> {
    let length = u16::try_from(bytes.len()).unwrap();
    stream.write_all(&[&length.to_be_bytes(), bytes].concat())
}

/// An authoritative answer to the question, without records.
pub(crate) fn answer(question: &Message) -> Message {
    let mut message = question.clone();
    message.metadata.message_type = MessageType::Response;
    message.metadata.authoritative = true;
    if message.edns.is_some() {
        message.edns = Some(Edns::new());
    }
    message
}

/// An answer with 10.0.0.1.
pub(crate) fn right(question: &Message) -> Message {
    let mut message = answer(question);
    message.add_answer(address(&message.queries[0].name().clone(), 1));
    message
}

/// The bytes of a [`right`] answer.
pub(crate) fn right_bytes(question: &Message) -> Vec<u8> {
    right(question).to_vec().unwrap()
}

/// An A record with 10.0.0.`last` and a time to live of zero.
pub(crate) fn address(name: &Name, last: u8) -> Record {
    Record::from_rdata(name.clone(), 0, RData::A(A::new(10, 0, 0, last)))
}

/// A CNAME record.
pub(crate) fn alias(from: &Name, to: &Name) -> Record {
    Record::from_rdata(from.clone(), 0, RData::CNAME(CNAME(to.clone())))
}

/// An answer of `count` different addresses, 16 bytes each.
pub(crate) fn many(question: &Message, count: u16) -> Vec<u8> {
    let mut message = answer(question);
    message.edns = None;
    let mut bytes = message.to_vec().unwrap();
    bytes[6..8].copy_from_slice(&count.to_be_bytes());
    for number in 0..u32::from(count) {
        // A pointer to the question's name, A, IN, no time to live, four bytes.
        bytes.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4]);
        bytes.extend(number.to_be_bytes());
    }
    bytes
}
