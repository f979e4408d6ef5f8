//! Files, TCP ports and signals, by `landlock(7)`: a list of what stays accessible.
//!
//! A rule is bound to an inode, not to a name. A file that is replaced has another inode, so files that
//! other programs replace (packages, certificates, `resolv.conf`) are allowed by their directory.

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, LandlockStatus, NetPort,
    Ruleset, RulesetAttr, RulesetCreatedAttr, RulesetError, RulesetStatus, Scope,
    path_beneath_rules,
};

use super::AllowedAccess;

/// The landlock interface that is asked for: that of Linux 6.12, which added signals. An older kernel
/// enforces the part that it knows.
const KNOWN: ABI = ABI::V6;

/// Confines the calling thread and its children to `allowed`. Returns a sentence about what is restricted.
///
/// # Errors
/// A sentence: the kernel has no landlock, or a version that is too old.
pub(super) fn restrict(allowed: &AllowedAccess) -> Result<String, String> {
    let status = apply(allowed).map_err(|error| match error {
        // The only hard requirement below.
        RulesetError::HandleAccesses(_) => {
            "the kernel has no landlock of Linux 5.19 or later".to_owned()
        }
        error => error.to_string(),
    })?;
    match (&status.ruleset, &status.landlock) {
        (RulesetStatus::NotEnforced, _) => Err("the kernel has no landlock".into()),
        (_, LandlockStatus::Available { effective_abi, .. }) => Ok(match effective_abi {
            ABI::V2 | ABI::V3 | ABI::V4 | ABI::V5 => format!(
                "files{}; the kernel's landlock is an old version ({effective_abi:?})",
                if *effective_abi >= ABI::V4 { " and TCP ports" } else { "" }
            ),
            _ => "files, TCP ports and signals".into(),
        }),
        (_, other) => Err(format!("{other:?}")),
    }
}

fn apply(allowed: &AllowedAccess) -> Result<landlock::RestrictionStatus, RulesetError> {
    let read = AccessFs::ReadFile | AccessFs::ReadDir;
    let device = AccessFs::ReadFile | AccessFs::WriteFile | AccessFs::IoctlDev;
    Ruleset::default()
        // Without this right (Linux 5.13 to 5.18) landlock forbids links into another directory, which the
        // directory lease store makes.
        .set_compatibility(CompatLevel::HardRequirement)
        .handle_access(AccessFs::Refer)?
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(KNOWN))?
        .handle_access(AccessNet::from_all(KNOWN))?
        .scope(Scope::Signal)?
        .create()?
        .add_rules(path_beneath_rules(&allowed.read, read))?
        .add_rules(path_beneath_rules(&allowed.execute, read | AccessFs::Execute))?
        .add_rules(path_beneath_rules(&allowed.write, writing()))?
        .add_rules(path_beneath_rules(&allowed.devices, device))?
        .add_rules(tcp(&allowed.listen, AccessNet::BindTcp))?
        .add_rules(tcp(&allowed.connect, AccessNet::ConnectTcp))?
        .restrict_self()
}

fn tcp(
    ports: &[u16],
    access: AccessNet,
) -> impl Iterator<Item = Result<NetPort, RulesetError>> + '_ {
    ports.iter().map(move |port| Ok(NetPort::new(*port, access)))
}

/// Rights for creating, replacing and removing files; not the right to execute them.
fn writing() -> BitFlags<AccessFs> {
    use AccessFs::{
        MakeDir, MakeReg, MakeSock, ReadDir, ReadFile, Refer, RemoveDir, RemoveFile, Truncate,
        WriteFile,
    };
    ReadFile
        | ReadDir
        | WriteFile
        | Truncate
        | MakeReg
        | MakeDir
        | MakeSock
        | RemoveFile
        | RemoveDir
        | Refer
}
