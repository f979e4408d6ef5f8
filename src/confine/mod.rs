//! Least privilege: the process and its threads give up privileges and access that they do not need.
//!
//! There are three layers, each of which can be disabled (`--harden`) and may be missing in the kernel:
//! capabilities, system calls (seccomp), and files, TCP ports and signals (landlock). The process
//! confines itself before it has a second thread or an open socket: setting up needs the same
//! privileges as running, because the TUN device, its routes and the firewall rules may have to be
//! made again at any time. A thread that carries packets needs none of them and gives up the rest
//! before its first packet. `docs/hardening.md` has the tables.

mod capabilities;
#[cfg(feature = "harden")]
mod files;
mod layers;
#[cfg(feature = "harden")]
mod seccomp;
#[cfg(all(
    feature = "harden",
    any(target_arch = "x86_64", target_arch = "aarch64", target_arch = "riscv64")
))]
mod syscalls;

use std::io;
use std::path::PathBuf;

use rustix::thread::set_no_new_privs;
use serde::{Deserialize, Serialize};

pub use layers::{Layer, Layers};

/// Files and ports that stay accessible to the confined process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AllowedAccess {
    /// Directories in which files are created, replaced and removed, and files that are written.
    pub write: Vec<PathBuf>,
    /// Files and directories that are read.
    pub read: Vec<PathBuf>,
    /// Directories with programs and their libraries.
    pub execute: Vec<PathBuf>,
    /// Devices, or directories with them.
    pub devices: Vec<PathBuf>,
    /// TCP ports to listen on.
    pub listen: Vec<u16>,
    /// TCP ports to connect to.
    pub connect: Vec<u16>,
}

/// The layers that confine the process.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Confinement {
    /// Every layer, in the order of [`Layer::ALL`].
    pub layers: Vec<LayerState>,
}

/// State of a layer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerState {
    /// Name, as in `--harden`.
    pub name: String,
    /// Whether it is in force.
    pub on: bool,
    /// What the layer leaves possible if it is in force, else why it is not.
    pub note: String,
}

impl Confinement {
    /// Whether `layer` is in force.
    pub fn has(&self, layer: Layer) -> bool {
        self.layers.iter().any(|state| state.on && state.name == layer.name())
    }
}

/// Privileges that a thread that carries packets gives up in addition to those of the process.
#[derive(Clone, Debug, Default)]
pub struct WorkerConfinement {
    capabilities: bool,
    #[cfg(feature = "harden")]
    filter: Option<std::sync::Arc<seccomp::Filters>>,
}

impl WorkerConfinement {
    /// Confines the calling thread; it cannot be undone.
    ///
    /// # Errors
    /// The kernel refuses to confine the thread although it confined the process; the thread must then carry
    /// no packets.
    pub fn enter(&self) -> io::Result<()> {
        if self.capabilities {
            capabilities::drop_all()?;
        }
        #[cfg(feature = "harden")]
        if let Some(filter) = &self.filter {
            filter.install()?;
        }
        Ok(())
    }

    /// Confines a helper thread of the control thread, which for example reads files: it keeps the
    /// system calls and files of the process, and no capability.
    ///
    /// # Errors
    /// As [`Self::enter`].
    pub fn enter_helper(&self) -> io::Result<()> {
        if self.capabilities { capabilities::drop_all() } else { Ok(()) }
    }
}

/// Gives up, in the calling thread, the capability for ports below 1024, which [`process`] keeps: to be
/// called once the backend's port is known to be another.
///
/// # Errors
/// As `capset(2)`.
pub fn give_up_low_ports(confinement: &Confinement) -> io::Result<()> {
    if confinement.has(Layer::Capabilities) { capabilities::drop_low_ports() } else { Ok(()) }
}

/// Confines the calling thread and every thread and program that is started from it with those of
/// `layers` that the kernel has. To be called while there is no other thread.
pub fn process(layers: Layers, allowed: &AllowedAccess) -> (Confinement, WorkerConfinement) {
    let mut worker = WorkerConfinement::default();
    // no_new_privs comes first, so that no program with the set-user-ID bit escapes a layer.
    let no_new_privileges = if layers == Layers::OFF {
        Ok(())
    } else {
        set_no_new_privs(true).map_err(io::Error::from)
    };
    let layers = Layer::ALL.map(|layer| {
        let outcome = match (layers.has(layer), &no_new_privileges) {
            (false, _) => Err("switched off".to_owned()),
            (true, Err(error)) => Err(format!("no_new_privs: {error}")),
            (true, Ok(())) => match layer {
                Layer::Landlock => restrict_files(allowed),
                Layer::Capabilities => {
                    let kept = capabilities::reduce();
                    worker.capabilities = kept.is_ok();
                    kept.map_err(|error| error.to_string())
                }
                Layer::Seccomp => filter_calls(&mut worker),
            },
        };
        let on = outcome.is_ok();
        let (Ok(note) | Err(note)) = outcome;
        LayerState { name: layer.name().to_owned(), on, note }
    });
    (Confinement { layers: layers.into() }, worker)
}

#[cfg(feature = "harden")]
fn restrict_files(allowed: &AllowedAccess) -> Result<String, String> {
    files::restrict(allowed)
}

#[cfg(feature = "harden")]
fn filter_calls(worker: &mut WorkerConfinement) -> Result<String, String> {
    let (process, threads) = seccomp::compile()?;
    process.install().map_err(|error| error.to_string())?;
    worker.filter = Some(std::sync::Arc::new(threads));
    Ok("system calls are filtered for each kind of thread".into())
}

#[cfg(not(feature = "harden"))]
fn restrict_files(_: &AllowedAccess) -> Result<String, String> {
    Err(NOT_BUILT_IN.into())
}

#[cfg(not(feature = "harden"))]
fn filter_calls(_: &mut WorkerConfinement) -> Result<String, String> {
    Err(NOT_BUILT_IN.into())
}

#[cfg(not(feature = "harden"))]
const NOT_BUILT_IN: &str = "built without the feature harden";
