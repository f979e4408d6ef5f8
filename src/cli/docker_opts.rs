//! `docker-opts`: turns `subnet.env` into options for dockerd, as flannel's `mk-docker-opts.sh` does.

use std::io;
use std::path::PathBuf;

use clap::Args;

use crate::exit::{Code, Exit};
use crate::host::docker_opts::{self, DockerOptsError, DockerOptsForm};
use crate::output_file;

/// Arguments of `docker-opts`, those of flannel's `mk-docker-opts.sh`.
#[derive(Clone, Debug, Args)]
pub struct DockerOptsArgs {
    /// Environment file that the daemon wrote
    #[arg(short = 'f', value_name = "FILE", default_value = "/run/flannel/subnet.env")]
    pub flannel_env: PathBuf,
    /// Environment file to write for dockerd
    #[arg(short = 'd', value_name = "FILE", default_value = "/run/docker_opts.env")]
    pub docker_env: PathBuf,
    /// Write each option as a separate variable, such as DOCKER_OPT_MTU
    #[arg(short = 'i')]
    pub individual: bool,
    /// Write all options as one variable; without -i and -c both forms are written
    #[arg(short = 'c')]
    pub combined: bool,
    /// Name of the combined variable
    #[arg(short = 'k', value_name = "NAME", default_value = "DOCKER_OPTS")]
    pub combined_key: String,
    /// Omit --ip-masq
    #[arg(short = 'm')]
    pub omit_ip_masq: bool,
}

/// Writes dockerd's environment file.
///
/// # Errors
/// The subnet file cannot be read or used, dockerd's file cannot be written, or a route of this host is in the
/// way of docker's bridge.
pub(super) async fn run(args: &DockerOptsArgs) -> Result<(), Exit> {
    let source = &args.flannel_env;
    let text = std::fs::read_to_string(source).map_err(|error| {
        let hint = match error.kind() {
            io::ErrorKind::NotFound => "; the daemon writes it once it has a lease",
            _ => "",
        };
        Exit::new(Code::NoInput, format!("error: cannot read {}: {error}{hint}", source.display()))
    })?;
    let form = DockerOptsForm {
        individual: args.individual,
        combined: args.combined,
        combined_key: args.combined_key.clone(),
        omit_ip_masq: args.omit_ip_masq,
    };
    let environment = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    let options = docker_opts::render(&text, environment, &form).map_err(|error| match error {
        DockerOptsError::Key(_) => Exit::usage(format!("error: {error}")),
        _ => Exit::new(Code::BadData, format!("error: {}: {error}", source.display())),
    })?;
    if let Some(subnet) = docker_opts::subnet_of(&text)
        && let Ok(Some(gateway)) = docker_opts::conflicting_gateway(subnet).await
    {
        return Err(Exit::new(
            Code::Config,
            format!(
                "error: this host has a route to its own subnet {subnet} via {gateway}; docker's \
                 bridge cannot have that subnet until the route is removed"
            ),
        ));
    }
    output_file::write(&args.docker_env, &options).map_err(|error| {
        let target = args.docker_env.display();
        Exit::new(Code::CannotCreate, format!("error: cannot write {target}: {error}"))
    })
}
