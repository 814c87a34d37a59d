//! A stand-in for a power control.

use async_trait::async_trait;
use site_recovery::Result;
use site_recovery_physical::power::{Keeps, PowerControl, PowerState};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// A stand-in for a power control: the server's host is its namespace. Off, every process of it is killed and it is
/// unplugged; held, it reads as held until it is let go.
pub struct Switch {
    off: AtomicBool,
    held: AtomicBool,
    kill: Mutex<Box<dyn FnMut() + Send>>,
    start: Mutex<Box<dyn FnMut() + Send>>,
}

impl std::fmt::Debug for Switch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Switch")
    }
}

impl Switch {
    pub fn new(kill: impl FnMut() + Send + 'static, start: impl FnMut() + Send + 'static) -> Arc<Self> {
        let (kill, start) = (Mutex::new(Box::new(kill) as _), Mutex::new(Box::new(start) as _));
        Arc::new(Self { off: AtomicBool::new(false), held: AtomicBool::new(false), kill, start })
    }

    /// Somebody pressed the button: held, it starts its rescue system.
    pub fn started_by_hand(&self) {
        self.off.store(false, Ordering::SeqCst);
    }

    pub fn is_off(&self) -> bool {
        self.off.load(Ordering::SeqCst)
    }
}

#[async_trait]
impl PowerControl for Switch {
    async fn state(&self) -> Result<PowerState> {
        Ok(if self.is_off() { PowerState::Off } else { PowerState::On })
    }

    async fn off(&self, _: Duration) -> Result<bool> {
        self.force_off().await.map(|()| true)
    }

    async fn force_off(&self) -> Result<()> {
        (self.kill.lock().unwrap())();
        self.off.store(true, Ordering::SeqCst);
        Ok(())
    }

    async fn on(&self) -> Result<()> {
        if self.off.swap(false, Ordering::SeqCst) {
            (self.start.lock().unwrap())();
        }
        Ok(())
    }

    fn keeps(&self) -> Keeps {
        Keeps { holds: true, tells: false }
    }

    async fn hold(&self, hold: bool) -> Result<()> {
        self.held.store(hold, Ordering::SeqCst);
        Ok(())
    }

    async fn held(&self) -> Result<Option<bool>> {
        Ok(Some(self.held.load(Ordering::SeqCst)))
    }
}
