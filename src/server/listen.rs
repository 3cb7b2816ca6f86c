//! Connections: accepted, bounded in time, and brought to an end when the server stops.

use std::net::{SocketAddr, TcpListener, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;

use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;
use tokio::sync::watch;

use super::router::{router, App};
use super::state::{Engine, Settings, State};
use crate::error::{Error, Result};
use crate::progress::Interrupt;

/// How long a stop may go unnoticed.
const POLL: Duration = Duration::from_millis(100);
/// After an error such as too many open files, before the next try.
const PAUSE: Duration = Duration::from_millis(50);

/// A server that listens, and answers once it has a model.
pub struct Bound {
    app: Arc<App>,
    listeners: Vec<TcpListener>,
}

impl Bound {
    /// Listens at all addresses of `settings`. Clients are told from now on that the model is being loaded.
    ///
    /// # Errors
    /// An address that there is not, or that is taken.
    pub fn new(settings: Settings) -> Result<Self> {
        let mut listeners: Vec<TcpListener> = Vec::new();
        for host in &settings.hosts {
            // All addresses have the port that the first one got.
            let port = match listeners.first().map(TcpListener::local_addr) {
                Some(Ok(address)) => address.port(),
                _ => settings.port,
            };
            listeners.push(listen(host, port)?);
        }
        if listeners.is_empty() {
            return Err(Error::expected("an address to listen at", "none").setting("hosts"));
        }
        Ok(Self { app: Arc::new(App::new(settings)), listeners })
    }

    /// The addresses.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.listeners.iter().filter_map(|listener| listener.local_addr().ok()).collect()
    }
}

fn listen(host: &str, port: u16) -> Result<TcpListener> {
    let bare = host.trim().trim_start_matches('[').trim_end_matches(']');
    let cannot = |error| Error::io("cannot listen", format!("{host}:{port}"), error).setting("hosts");
    let address = (bare, port).to_socket_addrs().map_err(cannot)?.next();
    let address =
        address.ok_or_else(|| Error::not_found(format!("no address of '{host}'")).setting("hosts"))?;
    let domain = socket2::Domain::for_address(address);
    let open = || {
        let socket = socket2::Socket::new(domain, socket2::Type::STREAM, None)?;
        if address.is_ipv6() {
            socket.set_only_v6(true)?;
        }
        // A server that was ended can be started again at once.
        #[cfg(unix)]
        socket.set_reuse_address(true)?;
        socket.bind(&address.into())?;
        socket.listen(1024)?;
        socket.set_nonblocking(true)?;
        Ok(TcpListener::from(socket))
    };
    open().map_err(cannot)
}

/// Answers until `interrupt` is raised. `load` makes the engine, in a thread of its own, while clients are told to wait;
/// `ready` is called once it is there.
///
/// # Errors
/// Those of `load`, or the operating system has no threads left.
pub fn serve(
    bound: Bound,
    load: impl FnOnce() -> Result<Engine> + Send + 'static,
    ready: impl FnOnce() + Send + 'static,
    interrupt: &Interrupt,
) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(bound.app.settings.n_threads.max(1))
        .thread_name("server")
        .enable_all()
        .build()
        .map_err(|error| Error::engine(format!("cannot start threads: {error}")))?;
    let result = runtime.block_on(run(bound, load, ready, interrupt));
    // What is still at work for clients that went away is not waited for.
    runtime.shutdown_timeout(Duration::from_secs(1));
    result
}

async fn run(
    bound: Bound,
    load: impl FnOnce() -> Result<Engine> + Send + 'static,
    ready: impl FnOnce() + Send + 'static,
    interrupt: &Interrupt,
) -> Result<()> {
    let Bound { app, listeners } = bound;
    let (stop, stopped) = watch::channel(false);
    let mut accepting = Vec::new();
    for listener in listeners {
        let listener = tokio::net::TcpListener::from_std(listener)
            .map_err(|error| Error::engine(format!("cannot listen: {error}")))?;
        accepting.push(tokio::spawn(accept(listener, Arc::clone(&app), stopped.clone())));
    }
    let settings = Arc::clone(&app.settings);
    let mut loading = Some(tokio::task::spawn_blocking(move || Ok(State::new(settings, load()?))));
    let mut ready = Some(ready);
    let mut tick = tokio::time::interval(POLL);
    let mut result = Ok(());
    while interrupt.check().is_ok() {
        tokio::select! {
            _ = tick.tick() => {}
            state = wait(&mut loading) => {
                match state {
                    Ok(Ok(state)) => app.set(state),
                    Ok(Err(error)) => result = Err(error),
                    Err(panic) => std::panic::resume_unwind(panic.into_panic()),
                }
                if result.is_err() {
                    break;
                }
                if let Some(ready) = ready.take() {
                    ready();
                }
            }
        }
    }
    // Nobody waits for its receivers any more if this fails.
    let _ = stop.send(true);
    for task in accepting {
        let _ = task.await;
    }
    result
}

/// What is being loaded; never returns a second time.
async fn wait<T>(
    loading: &mut Option<tokio::task::JoinHandle<T>>,
) -> std::result::Result<T, tokio::task::JoinError> {
    match loading {
        Some(task) => {
            let result = task.await;
            *loading = None;
            result
        }
        None => std::future::pending().await,
    }
}

/// Takes connections until the server stops, and then waits for them for a while.
async fn accept(listener: tokio::net::TcpListener, app: Arc<App>, mut stopped: watch::Receiver<bool>) {
    let service = router(Arc::clone(&app));
    let graceful = GracefulShutdown::new();
    let mut http = hyper::server::conn::http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(app.settings.timeout).keep_alive(true);
    // As llama-server writes them; some clients look for them so.
    http.title_case_headers(true);
    loop {
        let stream = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                // Of a client that went away at once, or for want of files: the next one may do better.
                Err(_) => {
                    tokio::time::sleep(PAUSE).await;
                    continue;
                }
            },
            _ = stopped.changed() => break,
        };
        prepare(&stream, &app.settings);
        let connection =
            http.serve_connection(TokioIo::new(stream), TowerToHyperService::new(service.clone()));
        let connection = graceful.watch(connection);
        tokio::spawn(async move {
            // How it ended is the client's affair.
            let _ = connection.await;
        });
    }
    drop(listener);
    let _ = tokio::time::timeout(app.settings.grace, graceful.shutdown()).await;
}

/// A client that is gone, or takes nothing of what it is sent, does not stay for ever.
fn prepare(stream: &TcpStream, settings: &Settings) {
    let socket = SockRef::from(stream);
    let keepalive = TcpKeepalive::new().with_time(settings.timeout / 2).with_interval(settings.timeout / 8);
    // Without these it works, too.
    let _ = socket.set_tcp_keepalive(&keepalive);
    #[cfg(any(target_os = "linux", target_os = "android"))]
    let _ = socket.set_tcp_user_timeout(Some(settings.timeout));
    let _ = stream.set_nodelay(true);
}
