//! The subnet file: the flag of the daemon, which writes it, and of the commands that read or remove it.

use std::path::PathBuf;

use clap::Args;

/// Where the subnet file is.
#[derive(Clone, Debug, Args)]
pub struct SubnetFileArgs {
    /// Environment file with this host's network, subnet and MTU, which the daemon writes
    #[arg(
        long = "subnet-file",
        id = "subnet_file",
        value_name = "FILE",
        env = "FLANNELD_SUBNET_FILE",
        default_value = "/run/flannel/subnet.env"
    )]
    pub path: PathBuf,
}
