//! Other machines, played by processes of this one, and the wire to them, which can be looked at and tampered with.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// A machine with `llama-svf rpc-server` at work.
pub struct Machine {
    child: Child,
    pub address: SocketAddr,
    /// What it said before it listened.
    pub said: String,
}

impl Machine {
    pub fn start() -> Self {
        let mut command = Command::new(assert_cmd::cargo::cargo_bin!("llama-svf"));
        command.args(["rpc-server", "--port", "0", "-t", "1"]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let mut said = String::new();
        loop {
            let line = lines.next().unwrap_or_else(|| panic!("not listening: {said}")).unwrap();
            said += &format!("{line}\n");
            let Some((_, rest)) = line.split_once("listening at ") else { continue };
            let address = rest.split(';').next().unwrap().parse().unwrap();
            // Whoever writes to a pipe that nobody reads is ended.
            std::thread::spawn(move || lines.for_each(drop));
            let machine = Self { child, address, said };
            machine.wait();
            return machine;
        }
    }

    /// Waits until it takes connections: the port is known a moment earlier.
    fn wait(&self) {
        for _ in 0..500 {
            if TcpStream::connect(self.address).is_ok() {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("{} takes no connections", self.address);
    }

    /// As if the power went.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.kill();
    }
}

/// What a wire does to a server's greeting.
#[derive(Clone, Copy, Default)]
pub struct Tamper {
    /// The server is one of another version.
    pub version: Option<u8>,
    /// The server is llama.cpp's own, which leaves a byte 0 that ours sets.
    pub is_stock: bool,
    /// What is sent arrives so much later.
    pub delay: Duration,
}

/// A wire to a machine.
pub struct Wire {
    pub address: SocketAddr,
    n_bytes: Arc<AtomicU64>,
    is_cut: Arc<AtomicBool>,
    ends: Arc<Mutex<Vec<TcpStream>>>,
}

impl Wire {
    pub fn to(machine: SocketAddr, tamper: Tamper) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let wire = Self {
            address: listener.local_addr().unwrap(),
            n_bytes: Arc::default(),
            is_cut: Arc::default(),
            ends: Arc::default(),
        };
        let (n_bytes, is_cut, ends) =
            (Arc::clone(&wire.n_bytes), Arc::clone(&wire.is_cut), Arc::clone(&wire.ends));
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let Ok(server) = TcpStream::connect(machine) else { continue };
                if is_cut.load(Ordering::SeqCst) {
                    continue;
                }
                client.set_nodelay(true).unwrap();
                server.set_nodelay(true).unwrap();
                let clones = || (client.try_clone().unwrap(), server.try_clone().unwrap());
                let (a, b) = clones();
                ends.lock().unwrap().extend([a, b]);
                let (from, to) = clones();
                let counter = Arc::clone(&n_bytes);
                std::thread::spawn(move || carry(from, to, &counter, None, tamper.delay));
                let (to, from) = clones();
                let counter = Arc::clone(&n_bytes);
                std::thread::spawn(move || carry(from, to, &counter, Some(tamper), tamper.delay));
            }
        });
        wire
    }

    /// What went over it in both directions.
    pub fn n_bytes(&self) -> u64 {
        self.n_bytes.load(Ordering::SeqCst)
    }

    pub fn cut(&self) {
        self.is_cut.store(true, Ordering::SeqCst);
        for end in self.ends.lock().unwrap().drain(..) {
            // One that was closed already is as good.
            let _ = end.shutdown(Shutdown::Both);
        }
    }
}

fn carry(
    mut from: TcpStream,
    mut to: TcpStream,
    n_bytes: &AtomicU64,
    mut tamper: Option<Tamper>,
    delay: Duration,
) {
    let mut buffer = vec![0; 1 << 16];
    // The greeting's answer: its size in 8 bytes, then major, minor, patch and the byte that is not used.
    let n_greeting = 12;
    loop {
        let n = match tamper {
            Some(_) => from.read_exact(&mut buffer[..n_greeting]).map(|()| n_greeting),
            None => from.read(&mut buffer),
        };
        let Ok(n) = n else { break };
        if n == 0 {
            break;
        }
        if let Some(tamper) = tamper.take() {
            if let Some(version) = tamper.version {
                buffer[8] = version;
            }
            if tamper.is_stock {
                buffer[11] = 0;
            }
        }
        std::thread::sleep(delay);
        if to.write_all(&buffer[..n]).is_err() {
            break;
        }
        n_bytes.fetch_add(n as u64, Ordering::SeqCst);
    }
    for end in [from, to] {
        let _ = end.shutdown(Shutdown::Both);
    }
}
