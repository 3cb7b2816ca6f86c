//! Ctrl-C: the first press asks the work to stop at a safe point, the second ends the process.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::error::{exit, Error, Result};
use crate::progress::Interrupt;
use crate::temporary;

/// Raised by the first press, for work that ends the command when it stops.
pub static INTERRUPT: Interrupt = Interrupt::new();

/// The same, for work after which the command goes on (a reply in a chat).
static PRESSED: AtomicBool = AtomicBool::new(false);

/// Starts to listen; called once.
pub fn listen() -> Result<()> {
    let on_press = || {
        INTERRUPT.raise();
        if PRESSED.swap(true, Ordering::Relaxed) {
            temporary::remove_all();
            std::process::exit(i32::from(exit::INTERRUPTED));
        }
    };
    ctrlc::set_handler(on_press).map_err(|error| Error::engine(format!("cannot listen for Ctrl-C: {error}")))
}

/// Whether Ctrl-C was pressed since the last [`forget`].
pub fn was_pressed() -> bool {
    PRESSED.load(Ordering::Relaxed)
}

/// Treats the next press as the first one.
pub fn forget() {
    PRESSED.store(false, Ordering::Relaxed);
}
