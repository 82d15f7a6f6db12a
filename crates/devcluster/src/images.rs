//! Container images of real engines, made from the distribution's packages and laid out like the official images: same
//! names, users (999), folders and `PATH`. Without entrypoints: whoever runs them says what to run.
//!
//! Each image is a base layer and a layer with what the engine needs beyond it. They are imported once into the storage
//! of a container runtime, which every node then gets as links.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use thiserror::Error;

use crate::cache::{Cache, CacheError, Key};
use crate::command::{CommandError, last_lines, run};
use crate::debian::{Chosen, PackageError, Packages};
use crate::node::{self, SANDBOX_IMAGE};

/// Why there are no images.
#[derive(Debug, Error)]
pub enum ImageError {
    /// The cache folder.
    #[error(transparent)]
    Cache(#[from] CacheError),
    /// The packages.
    #[error(transparent)]
    Package(#[from] PackageError),
    /// A program that packs or imports.
    #[error(transparent)]
    Command(#[from] CommandError),
    /// A file or folder.
    #[error("{path}: {source}")]
    File {
        /// The file or folder.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// The container runtime that imports did not come up.
    #[error("the container runtime that imports images does not listen:\n{0}")]
    Runtime(String),
}

impl ImageError {
    fn at(path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        move |source| Self::File {
            path: path.to_owned(),
            source,
        }
    }
}

/// The container runtime and what it and kube-proxy need, by name: all else is on every Debian. No iptables: kube-proxy
/// works with nftables, and the pods' bridge masquerades nothing.
const RUNTIME: [&str; 12] = [
    "containerd",
    "runc",
    "containernetworking-plugins",
    "nftables",
    "libnftables1",
    "libnftnl11",
    "libjansson4",
    "libedit2",
    "libbsd0",
    "libmnl0",
    "libxtables12",
    "libseccomp2",
];

/// What a shell script in a container may expect.
const BASE: [&str; 18] = [
    "base-files",
    "base-passwd",
    "bash",
    "coreutils",
    "dash",
    "findutils",
    "grep",
    "gzip",
    "hostname",
    "libc-bin",
    "mawk",
    "netbase",
    "procps",
    "sed",
    "tar",
    "tzdata",
    "util-linux",
    "ncurses-base",
];

/// The user of every engine, as in the official images.
const ENGINE_UID: u32 = 999;

const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What packages ask for and no engine uses in a container: Perl, and the helpers of the package manager and of service
/// managers. A name that ends with `*` stands for all that begin so.
const UNUSED: [&str; 27] = [
    "adduser",
    "debconf*",
    "dpkg",
    "init-system-helpers",
    "iproute2",
    "libbpf1",
    "libgdbm*",
    "libllvm*",
    "libperl*",
    "libz3-4",
    "libc-l10n",
    "locales*",
    "logsave",
    "lsb-base",
    "lsof",
    "mysql-common",
    "passwd",
    "perl*",
    "postgresql-client-common",
    "postgresql-common*",
    "psmisc",
    "rsync",
    "ssl-cert",
    "systemd*",
    "sysvinit-utils",
    "ucf",
    "usrmerge",
];

/// An engine's image.
struct Engine {
    image: &'static str,
    package: &'static str,
    user: &'static str,
    /// Paths that are not unpacked.
    without: &'static [&'static str],
    /// Folders that the official image has, with their permissions; they belong to the engine's user there.
    folders: &'static [(&'static str, u32)],
    /// The image's settings, as `docker inspect` would show them.
    settings: fn() -> Value,
}

const ENGINES: [Engine; 2] = [
    Engine {
        image: "localhost/postgres:15",
        package: "postgresql-15",
        user: "postgres",
        // Compiling queries needs LLVM, 120 MB. Without these files PostgreSQL goes on without; with them and without
        // LLVM, it would fail.
        without: &[
            "./usr/lib/postgresql/15/lib/llvmjit*",
            "./usr/lib/postgresql/15/lib/bitcode*",
        ],
        folders: &[
            ("var/lib/postgresql/data", 0o1777),
            ("run/postgresql", 0o3777),
            ("docker-entrypoint-initdb.d", 0o755),
        ],
        settings: || {
            json!({
                "Env": [
                    format!("PATH={PATH}:/usr/lib/postgresql/15/bin"),
                    "LANG=C.UTF-8",
                    "PG_MAJOR=15",
                    "PGDATA=/var/lib/postgresql/data",
                ],
                "Cmd": ["postgres"],
                "StopSignal": "SIGINT",
                "ExposedPorts": { "5432/tcp": {} },
                "Volumes": { "/var/lib/postgresql/data": {} },
            })
        },
    },
    Engine {
        image: "localhost/redis:7.0",
        package: "redis-server",
        user: "redis",
        without: &["./etc/redis/*"],
        folders: &[("data", 0o1777)],
        settings: || {
            json!({
                "Env": [format!("PATH={PATH}")],
                "Cmd": ["redis-server"],
                "WorkingDir": "/data",
                "ExposedPorts": { "6379/tcp": {} },
                "Volumes": { "/data": {} },
            })
        },
    },
];

/// The unpacked container runtime.
pub(crate) fn runtime(cache: &Cache) -> Result<PathBuf, ImageError> {
    let key = Key::new(
        "runtime",
        "debian",
        &[&RUNTIME.join(" "), include_str!("debian.rs"), std::env::consts::ARCH],
    );
    cache.get(
        &key,
        "downloading the container runtime (about 10 seconds, once)",
        |folder| {
            make_merged_folders(folder)?;
            let scratch = folder.join("scratch");
            Packages::new(scratch.clone()).unpack(&RUNTIME, folder, &[])?;
            fs::remove_dir_all(&scratch).map_err(ImageError::at(&scratch))
        },
    )
}

/// A container runtime's storage with all images, imported and unpacked.
pub(crate) fn images(cache: &Cache, runtime: &Path, pause: &Path) -> Result<PathBuf, ImageError> {
    let runtime_name = runtime.file_name().unwrap_or_default().to_string_lossy();
    let pause_name = pause
        .parent()
        .and_then(Path::file_name)
        .unwrap_or_default()
        .to_string_lossy();
    // The recipe is this file: a change of it makes new images.
    let key = Key::new(
        "images",
        "debian",
        &[include_str!("images.rs"), &runtime_name, &pause_name],
    );
    let place = cache.get(
        &key,
        "making images of PostgreSQL and Redis (about 1 minute, once)",
        |folder| {
            let work = folder.join("work");
            fs::create_dir(&work).map_err(ImageError::at(&work))?;
            let (archive, engines) = make_archive(&work, pause)?;
            write(&folder.join(ENGINE_IMAGES), &json!(engines).to_string())?;
            import(&archive, &folder.join("containerd"), runtime)?;
            fs::remove_dir_all(&work).map_err(ImageError::at(&work))
        },
    )?;
    Ok(place.join("containerd"))
}

/// Today's Debian: programs and libraries are in `/usr`, and the old places are links.
fn make_merged_folders(root: &Path) -> Result<(), ImageError> {
    for name in ["bin", "sbin", "lib", "lib64"] {
        let folder = root.join("usr").join(name);
        fs::create_dir_all(&folder).map_err(ImageError::at(&folder))?;
        let link = root.join(name);
        symlink(format!("usr/{name}"), &link).map_err(ImageError::at(&link))?;
    }
    Ok(())
}

/// File, beside the storage, that says what the images hold.
const ENGINE_IMAGES: &str = "engines.json";

/// An image of an engine, and what is in it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct EngineImage {
    /// Its name, such as `localhost/postgres:15`.
    pub image: String,
    /// The engine's release, such as `15.18`: what the distribution had when the image was made.
    pub version: String,
}

/// What the images in this storage hold.
pub(crate) fn engine_images(storage: &Path) -> Result<Vec<EngineImage>, ImageError> {
    let path = storage.with_file_name(ENGINE_IMAGES);
    let text = fs::read_to_string(&path).map_err(ImageError::at(&path))?;
    serde_json::from_str(&text).map_err(|error| ImageError::at(&path)(error.into()))
}

/// The engine's own release of a package's version: without Debian's epoch and revision (`5:7.0.15-1~deb12u1`).
fn release(version: &str) -> &str {
    let version = version.split_once(':').map_or(version, |(_, rest)| rest);
    version.rsplit_once('-').map_or(version, |(release, _)| release)
}

/// A layer as a file, with its digest.
struct Layer {
    file: String,
    digest: String,
}

/// Makes all images and returns one archive with them, as `docker save` would write it, and what the engines' hold.
fn make_archive(work: &Path, pause: &Path) -> Result<(PathBuf, Vec<EngineImage>), ImageError> {
    let mut packages = Packages::new(work.join("scratch"));
    let mut manifest = Vec::new();

    let root = work.join("pause");
    copy(pause, &root.join("pause"))?;
    let layers = [pack(work, "pause")?];
    manifest.push(describe(
        work,
        SANDBOX_IMAGE,
        &json!({ "Entrypoint": ["/pause"] }),
        &layers,
    )?);

    let base_packages = used(packages.closure(&BASE)?);
    make_base(&mut packages, &base_packages, &work.join("base"))?;
    let base = pack(work, "base")?;
    let mut layers = vec![base];
    let mut engines = Vec::new();
    for engine in &ENGINES {
        let mut wanted = used(packages.closure(&[engine.package])?);
        wanted.retain(|package| !base_packages.contains(package));
        let version = wanted
            .iter()
            .find_map(|package| package.strip_prefix(engine.package)?.strip_prefix('='));
        engines.push(EngineImage {
            image: engine.image.to_owned(),
            version: release(version.unwrap_or_default()).to_owned(),
        });
        let root = work.join(engine.user);
        make_merged_folders(&root)?;
        packages.unpack(&wanted, &root, engine.without)?;
        add_user(&work.join("base"), &root, engine.user)?;
        for (path, mode) in engine.folders {
            let path = root.join(path);
            fs::create_dir_all(&path).map_err(ImageError::at(&path))?;
            fs::set_permissions(&path, fs::Permissions::from_mode(*mode)).map_err(ImageError::at(&path))?;
        }
        layers.truncate(1);
        layers.push(pack(work, engine.user)?);
        manifest.push(describe(work, engine.image, &(engine.settings)(), &layers)?);
    }
    write(&work.join("manifest.json"), &json!(manifest).to_string())?;

    let archive = work.join("images.archive");
    let mut tar = Command::new("tar");
    tar.arg("--create")
        .arg("--file")
        .arg(&archive)
        .arg("--directory")
        .arg(work)
        .arg("manifest.json");
    for entry in &manifest {
        tar.arg(entry["Config"].as_str().unwrap_or_default());
    }
    tar.args(["pause.tar", "base.tar"])
        .args(ENGINES.map(|engine| format!("{}.tar", engine.user)));
    run(&mut tar)?;
    Ok((archive, engines))
}

fn make_base(packages: &mut Packages, chosen: &[Chosen], root: &Path) -> Result<(), ImageError> {
    make_merged_folders(root)?;
    packages.unpack(chosen, root, &[])?;
    // What the maintainer scripts would have done: the users, and the two names that several packages may provide.
    for file in ["passwd", "group"] {
        copy(
            &root.join(format!("usr/share/base-passwd/{file}.master")),
            &root.join("etc").join(file),
        )?;
    }
    for (link, target) in [("usr/bin/sh", "dash"), ("usr/bin/awk", "mawk"), ("var/run", "/run")] {
        let link = root.join(link);
        match link.symlink_metadata() {
            Ok(there) if there.is_dir() => fs::remove_dir_all(&link).map_err(ImageError::at(&link))?,
            Ok(_) => fs::remove_file(&link).map_err(ImageError::at(&link))?,
            Err(_) => {}
        }
        symlink(target, &link).map_err(ImageError::at(&link))?;
    }
    for (folder, mode) in [
        ("tmp", 0o1777),
        ("root", 0o700),
        ("proc", 0o555),
        ("sys", 0o555),
        ("dev", 0o755),
        ("run", 0o755),
    ] {
        let folder = root.join(folder);
        fs::create_dir_all(&folder).map_err(ImageError::at(&folder))?;
        fs::set_permissions(&folder, fs::Permissions::from_mode(mode)).map_err(ImageError::at(&folder))?;
    }
    Ok(())
}

/// The base's users and one more.
fn add_user(base: &Path, root: &Path, user: &str) -> Result<(), ImageError> {
    for (file, line) in [
        (
            "etc/passwd",
            format!("{user}:x:{ENGINE_UID}:{ENGINE_UID}::/var/lib/{user}:/bin/bash\n"),
        ),
        ("etc/group", format!("{user}:x:{ENGINE_UID}:\n")),
    ] {
        copy(&base.join(file), &root.join(file))?;
        let path = root.join(file);
        let mut added = File::options()
            .append(true)
            .open(&path)
            .map_err(ImageError::at(&path))?;
        added.write_all(line.as_bytes()).map_err(ImageError::at(&path))?;
    }
    Ok(())
}

fn used(packages: Vec<Chosen>) -> Vec<Chosen> {
    packages
        .into_iter()
        .filter(|package| !is_unused(package.split('=').next().unwrap_or(package)))
        .collect()
}

fn is_unused(package: &str) -> bool {
    let perl_library = package.starts_with("lib") && package.ends_with("-perl");
    perl_library
        || UNUSED.iter().any(|unused| match unused.strip_suffix('*') {
            Some(beginning) => package.starts_with(beginning),
            None => package == *unused,
        })
}

/// Packs `work/NAME` so that the same content gives the same bytes.
fn pack(work: &Path, name: &str) -> Result<Layer, ImageError> {
    let file = format!("{name}.tar");
    let mut tar = Command::new("tar");
    tar.args([
        "--create",
        "--sort=name",
        "--mtime=@0",
        "--numeric-owner",
        "--owner=0",
        "--group=0",
        "--file",
    ]);
    run(tar
        .arg(work.join(&file))
        .arg("--directory")
        .arg(work.join(name))
        .arg("."))?;
    let sum = run(Command::new("sha256sum").arg(work.join(&file)))?;
    let digest = format!("sha256:{}", sum.split(' ').next().unwrap_or_default());
    Ok(Layer { file, digest })
}

/// Writes the settings of an image and returns its entry in the archive's list.
fn describe(work: &Path, image: &str, settings: &Value, layers: &[Layer]) -> Result<Value, ImageError> {
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    let digests: Vec<&str> = layers.iter().map(|layer| layer.digest.as_str()).collect();
    let files: Vec<&str> = layers.iter().map(|layer| layer.file.as_str()).collect();
    let config = json!({
        "architecture": architecture,
        "os": "linux",
        "config": settings,
        "rootfs": { "type": "layers", "diff_ids": digests },
    });
    let file = format!("{}.json", image.replace(['/', ':'], "_"));
    write(&work.join(&file), &config.to_string())?;
    Ok(json!({ "Config": file, "RepoTags": [image], "Layers": files }))
}

/// Imports into the storage `root`, by a container runtime that lives only for that, in a mount namespace of its own.
fn import(archive: &Path, root: &Path, runtime: &Path) -> Result<(), ImageError> {
    // A socket's path must be short, which a cache folder's need not be.
    let state = tempfile::tempdir().map_err(ImageError::at(&std::env::temp_dir()))?;
    let socket = state.path().join("socket");
    let quoted = |path: &Path| Value::from(path.display().to_string()).to_string();
    let settings = state.path().join("containerd.toml");
    write(
        &settings,
        &format!(
            "version = 2\nroot = {}\nstate = {}\n\
             disabled_plugins = [\"io.containerd.grpc.v1.cri\", \"io.containerd.internal.v1.opt\"]\n\
             [grpc]\naddress = {}\n",
            quoted(root),
            quoted(&state.path().join("state")),
            quoted(&socket)
        ),
    )?;
    let (path, libraries) = node::search_paths(runtime);
    let log = state.path().join("log");
    let output = File::create(&log).map_err(ImageError::at(&log))?;
    let mut containerd = Command::new("setpriv");
    containerd.args(["--pdeathsig", "KILL", "--", "unshare", "--mount", "--"]);
    containerd
        .arg(runtime.join("usr/bin/containerd"))
        .arg("--config")
        .arg(&settings);
    containerd.env("PATH", &path).env("LD_LIBRARY_PATH", &libraries);
    containerd
        .stdin(Stdio::null())
        .stdout(output.try_clone().map_err(ImageError::at(&log))?)
        .stderr(output);
    let mut containerd = containerd.spawn().map_err(ImageError::at(runtime))?;
    let import = || {
        let began = Instant::now();
        while !socket.exists() {
            if began.elapsed() > Duration::from_mins(1) {
                let log = fs::read(&log).map_err(ImageError::at(&log))?;
                return Err(ImageError::Runtime(last_lines(&String::from_utf8_lossy(&log), 12)));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let mut ctr = Command::new(runtime.join("usr/bin/ctr"));
        ctr.arg("--address").arg(&socket).args([
            "--namespace",
            "k8s.io",
            "images",
            "import",
            "--snapshotter",
            "overlayfs",
        ]);
        run(ctr.arg(archive).env("PATH", &path).env("LD_LIBRARY_PATH", &libraries))?;
        Ok(())
    };
    let imported = import();
    // Asked, not killed: its databases have to be complete.
    let asked = i32::try_from(containerd.id()).map(nix::unistd::Pid::from_raw);
    if let Ok(process) = asked {
        nix::sys::signal::kill(process, nix::sys::signal::Signal::SIGTERM)
            .map_err(|error| ImageError::at(root)(error.into()))?;
    }
    containerd.wait().map_err(ImageError::at(root))?;
    imported
}

fn copy(from: &Path, to: &Path) -> Result<(), ImageError> {
    if let Some(folder) = to.parent() {
        fs::create_dir_all(folder).map_err(ImageError::at(folder))?;
    }
    fs::copy(from, to).map(drop).map_err(ImageError::at(from))
}

fn write(path: &Path, text: &str) -> Result<(), ImageError> {
    fs::write(path, text).map_err(ImageError::at(path))
}

#[cfg(test)]
mod tests;
