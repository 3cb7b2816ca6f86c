//! Devices of other machines, through ggml's RPC backend: a client of their servers, and a server of this machine's devices.
//!
//! ggml takes for granted that a server is there and speaks its version. That is found out here, before it is asked.

use std::ffi::CString;
use std::fmt;
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::path::Path;
use std::time::Duration;

use llama_cpp_sys_2 as sys;

use crate::error::{Error, Result};
use crate::ffi::device::Device;
use crate::ffi::svf;

/// How long a server may take to answer a greeting.
const PATIENCE: Duration = Duration::from_secs(5);

/// The greeting (`RPC_CMD_HELLO` of ggml-rpc.cpp), its size, and what each side can do beside TCP: nothing.
const HELLO: u8 = 14;
const N_CAPS: usize = 24;

/// The version of the protocol that this build speaks; servers have to have the same major one, and no later minor one.
pub const VERSION: [u32; 2] = [svf::RPC_PROTO_MAJOR_VERSION, svf::RPC_PROTO_MINOR_VERSION];

/// A server whose devices are used, and the connection to it. Servers talk to one client at a time.
pub struct RpcServer {
    endpoint: String,
    name: CString,
    devices: Vec<Device>,
    /// Holds the connection: ggml would else open one for each question until the model is loaded.
    backend: sys::ggml_backend_t,
}

// SAFETY: the backend is only kept, and ggml's dispatcher behind it takes calls from any thread.
unsafe impl Send for RpcServer {}
// SAFETY: as above.
unsafe impl Sync for RpcServer {}

impl RpcServer {
    /// Connects to the server at `endpoint`, `HOST:PORT`.
    ///
    /// # Errors
    /// There is none that answers within five seconds, it speaks another version, or it has no devices.
    pub fn connect(endpoint: &str) -> Result<Self> {
        let at_server = |error: Error| error.field(format!("RPC server {endpoint}"));
        greet(endpoint).map_err(at_server)?;
        let name = CString::new(endpoint).map_err(|_| at_server(Error::invalid("a NUL byte")))?;
        // SAFETY: the name is terminated. ggml keeps what it returns as long as the process lives, and answers null for a
        // server without devices.
        let registered = unsafe { svf::ggml_backend_rpc_add_server(name.as_ptr()) };
        if registered.is_null() {
            return Err(at_server(Error::engine("the server has no devices")));
        }
        // SAFETY: as above.
        let n_devices = unsafe { sys::ggml_backend_reg_dev_count(registered) };
        // SAFETY: as above; the indices are in range.
        let device = |i| Device::new(unsafe { sys::ggml_backend_reg_dev_get(registered, i) });
        let devices: Vec<_> = (0..n_devices).map(device).collect();
        if devices.iter().any(|device| !Device::all().contains(device)) {
            // SAFETY: as above; llama.cpp chooses among what is registered.
            unsafe { sys::ggml_backend_register(registered) };
        }
        // SAFETY: a server that is registered has a first device, which lives as long as the process.
        let backend = unsafe { sys::ggml_backend_dev_init(devices[0].as_ptr(), std::ptr::null()) };
        let this = Self { endpoint: endpoint.to_owned(), name, devices, backend };
        this.check().map_err(at_server)?;
        Ok(this)
    }

    /// `HOST:PORT`.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// What it computes on.
    pub fn devices(&self) -> &[Device] {
        &self.devices
    }

    /// # Errors
    /// The connection broke. It does not come back, nor does what the server held.
    pub fn check(&self) -> Result<()> {
        // SAFETY: the name is terminated.
        if unsafe { svf::svf_rpc_is_lost(self.name.as_ptr()) } {
            return Err(Error::engine(format!(
                "the connection to the RPC server {} broke, and what it held of the model is lost",
                self.endpoint
            ))
            .hint("see what ended it there, start it again, and then this program"));
        }
        Ok(())
    }
}

impl fmt::Debug for RpcServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RpcServer").field("endpoint", &self.endpoint).finish_non_exhaustive()
    }
}

impl Drop for RpcServer {
    fn drop(&mut self) {
        // SAFETY: made for this value alone; ggml accepts null.
        unsafe { sys::ggml_backend_free(self.backend) };
    }
}

/// Finds out whether a server of our version is there.
fn greet(endpoint: &str) -> Result<()> {
    let mut stream = reach(&address(endpoint)?)?;
    let mut said = vec![HELLO];
    said.extend((N_CAPS as u64).to_le_bytes());
    said.extend([0; N_CAPS]);
    // u64 size, then major, minor, patch, a byte, and its caps.
    let mut answer = [0; 8 + 4 + N_CAPS];
    let exchanged = stream.write_all(&said).and_then(|()| stream.read_exact(&mut answer));
    exchanged.map_err(|error| match error.kind() {
        ErrorKind::WouldBlock | ErrorKind::TimedOut => {
            Error::engine(format!("it did not answer within {} s", PATIENCE.as_secs()))
                .hint("an RPC server talks to one client at a time: does another one use it?")
        }
        _ => Error::engine("it ended the connection when it was greeted")
            .hint("is that an RPC server? one of another version of the protocol does so, too"),
    })?;
    let size = answer[..8].try_into().map(u64::from_le_bytes).unwrap_or_default();
    if size != (4 + N_CAPS) as u64 {
        return Err(Error::engine("it does not answer as an RPC server does"));
    }
    let found = [u32::from(answer[8]), u32::from(answer[9])];
    if found[0] != VERSION[0] || found[1] > VERSION[1] {
        let text = |version: [u32; 2]| format!("version {}.{}", version[0], version[1]);
        return Err(Error::expected(format!("{} of the RPC protocol", text(VERSION)), text(found))
            .hint("use a llama-svf or llama.cpp of the same age on both machines"));
    }
    Ok(())
}

fn address(endpoint: &str) -> Result<Vec<SocketAddr>> {
    let is_pair = endpoint
        .split_once(':')
        .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port > 0));
    if !is_pair {
        return Err(Error::expected("HOST:PORT, where HOST is a name or an IPv4 address", endpoint));
    }
    let found = endpoint.to_socket_addrs().map(|found| found.filter(SocketAddr::is_ipv4).collect::<Vec<_>>());
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        _ => Err(Error::engine("no IPv4 address has this name")),
    }
}

fn reach(addresses: &[SocketAddr]) -> Result<TcpStream> {
    let mut problem = None;
    for address in addresses {
        let connected = TcpStream::connect_timeout(address, PATIENCE).and_then(|stream| {
            stream.set_read_timeout(Some(PATIENCE))?;
            stream.set_write_timeout(Some(PATIENCE))?;
            Ok(stream)
        });
        match connected {
            Ok(stream) => return Ok(stream),
            Err(error) => problem = Some(error),
        }
    }
    let reason = problem.map_or_else(|| "no address".to_owned(), |error| error.to_string());
    Err(Error::engine(format!("cannot be reached: {reason}"))
        .hint("start `Offer::serve` there, at an address of the network between"))
}

/// What a server offers.
#[derive(Clone, Debug)]
pub struct Offer {
    /// The devices that clients compute on: the GPUs, or the CPU where there is none.
    pub devices: Vec<Device>,
    /// Whether all of them have our fused operation; without it clients use stock ones.
    pub has_op: bool,
    /// Where it listens.
    pub address: SocketAddr,
}

impl Offer {
    /// The port that llama.cpp's own server takes.
    pub const PORT: u16 = 50052;

    /// Prepares to listen at `host` and `port`; 0 takes a free one.
    ///
    /// # Errors
    /// The address is not this machine's, or something else listens there.
    pub fn new(host: Ipv4Addr, port: u16) -> Result<Self> {
        let gpus: Vec<_> =
            Device::all().into_iter().filter(|device| !device.is_cpu() && !device.is_remote()).collect();
        let devices = if gpus.is_empty() { vec![Device::cpu()] } else { gpus };
        let mut pointers: Vec<_> = devices.iter().map(|device| device.as_ptr()).collect();
        // SAFETY: as many devices as stated, which live as long as the process.
        let has_op = unsafe { svf::svf_rpc_offer(pointers.len(), pointers.as_mut_ptr()) };
        // ggml says of a failure only that there was one.
        let free = TcpListener::bind((host, port)).and_then(|listener| listener.local_addr());
        let address = free.map_err(|error| {
            Error::engine(format!("cannot listen at {host}:{port}: {error}")).setting("port")
        })?;
        Ok(Self { devices, has_op, address })
    }

    /// Serves one client after the other, for as long as the process lives. Large tensors that clients send are kept in the folder
    /// `cache`, and not sent again.
    ///
    /// # Errors
    /// It ended: ggml's reason is on stderr.
    pub fn serve(&self, n_threads: usize, cache: Option<&Path>) -> Result<()> {
        let text = |text: String| CString::new(text).map_err(|_| Error::invalid("a NUL byte in a path"));
        let endpoint = text(self.address.to_string())?;
        let cache = cache.map(|folder| text(folder.display().to_string())).transpose()?;
        let mut pointers: Vec<_> = self.devices.iter().map(|device| device.as_ptr()).collect();
        // SAFETY: terminated texts and as many devices as stated, all alive through the call.
        unsafe {
            svf::ggml_backend_rpc_start_server(
                endpoint.as_ptr(),
                cache.as_ref().map_or(std::ptr::null(), |folder| folder.as_ptr()),
                n_threads,
                pointers.len(),
                pointers.as_mut_ptr(),
            );
        }
        Err(Error::engine(format!("the RPC server at {} ended", self.address)))
    }
}
