//! `llama-svf rpc-server`: let other machines keep layers here.

use std::net::{Ipv4Addr, ToSocketAddrs};
use std::path::PathBuf;
use std::time::Duration;

use super::runtime_args::n_threads;
use super::{ctrl_c, printer};
use crate::engine::Offer;
use crate::error::{exit, Error, Result};

/// Let other machines keep layers of their models here, and compute with this machine's GPUs or CPU
///
/// A model that is too large for one machine runs on several: start this on each of the others, and give their addresses to
/// `--rpc` of run, serve, eval, train and the rest. The model, its sidecar and experts are files of the machine that asks; what
/// the others need is sent to them when the model is loaded. It is llama.cpp's RPC server, which knows adapted layers, too.
///
/// WARNING: whoever reaches the port reads and writes this process's memory: it is for networks that you trust.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  \
    llama-svf rpc-server --host 10.0.0.2                          on the other machine, whose address this is\n  \
    llama-svf run -m model.gguf --svf model.svf.gguf --expert maths.expert.gguf --use maths --rpc 10.0.0.2:50052 -p 'Hello'\n  \
    llama-svf serve -m model.gguf --svf model.svf.gguf --rpc 10.0.0.2:50052,10.0.0.3:50052\n\n\
    A server talks to one client at a time. One that keeps large tensors (--cache) need not be sent them again.")]
pub struct Args {
    /// Address to listen at: this machine's in the network between; 127.0.0.1 lets no other machine in
    #[arg(long, value_name = "HOST", default_value = "127.0.0.1")]
    host: String,
    /// Port to listen at; 0 takes a free one
    #[arg(short, long, value_name = "N", default_value_t = Offer::PORT)]
    port: u16,
    /// Threads, where it computes on the CPU [default: all]
    #[arg(short, long, value_name = "N")]
    threads: Option<u32>,
    /// Keep large tensors in this folder, which is made where it is missing
    #[arg(short, long, value_name = "FOLDER")]
    cache: Option<PathBuf>,
}

pub fn main(args: &Args) -> Result<u8> {
    let n_threads = n_threads(args.threads)? as usize;
    let offer = Offer::new(host(&args.host)?, args.port)?;
    if let Some(folder) = &args.cache {
        std::fs::create_dir_all(folder).map_err(|error| Error::io("cannot make", folder, error))?;
    }
    let names: Vec<_> = offer.devices.iter().map(|device| device.name()).collect();
    let op = if offer.has_op { "fused" } else { "from stock operations" };
    printer::note(format_args!("{} for others, adapted layers {op}", names.join(", ")));
    if !offer.address.ip().is_loopback() {
        printer::note("warning: whoever reaches this port reads and writes the memory of this process");
    }
    printer::note(format_args!("listening at {}; Ctrl-C ends it", offer.address));
    let cache = args.cache.clone();
    let server = std::thread::spawn(move || offer.serve(n_threads, cache.as_deref()));
    while !server.is_finished() {
        if ctrl_c::INTERRUPT.check().is_err() {
            return Ok(exit::INTERRUPTED);
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    let ended = server.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    ended.map(|()| exit::DONE)
}

/// The IPv4 address of `host`, of which ggml knows numbers only.
fn host(host: &str) -> Result<Ipv4Addr> {
    let found = (host, 0).to_socket_addrs().ok().and_then(|mut found| {
        found.find_map(|address| match address.ip() {
            std::net::IpAddr::V4(address) => Some(address),
            std::net::IpAddr::V6(_) => None,
        })
    });
    found.ok_or_else(|| Error::expected("an IPv4 address of this machine, or its name", host).field("--host"))
}
