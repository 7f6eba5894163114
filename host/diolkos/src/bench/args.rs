//! `diolkos bench` as the user writes it, and its help.

use std::path::PathBuf;
use std::time::Duration;

use clap::Subcommand;
use diolkos_bench::Peers;

use crate::memory_size::MemorySize;

/// What can be measured.
#[derive(Debug, Subcommand)]
pub enum BenchCommand {
    /// Reads and writes of files: on the host, in Diolkos, in what else is here
    ///
    /// Makes files in a folder of its own, lets fio use them on each system in turn, and prints a table. Progress is told on
    /// stderr. Systems that are not here are reported as missing, with what to install. Ctrl-C ends everything that was
    /// started, removes the files, and prints what there was until then.
    #[command(after_long_help = MICRO_NOTES)]
    Micro(MicroOptions),

    /// Starts of programs, from /bin/true to a web application: on the host, in Diolkos, in what else is here
    ///
    /// Starts each program on each system in turn and prints how long that took, from the command to its end. Programs and
    /// systems that are not here are reported as missing, with what to install.
    #[command(after_long_help = BOOT_NOTES)]
    Boot(BootOptions),

    /// What runs inside the systems that are measured
    #[command(subcommand, hide = true)]
    Worker(Worker),
}

#[derive(Debug, clap::Args)]
pub struct MicroOptions {
    /// Only these systems and jobs; a list of names, in which '*' stands for any letters
    ///
    /// Where the list names no system all take part, and so do jobs. A name that is wrong is answered with all there are.
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    pub only: Vec<String>,

    /// See whether everything runs: small files, short times, one round
    #[arg(long)]
    pub quick: bool,

    /// Size of the one file, and of the tree of many [default: 1G]
    #[arg(long, value_name = "SIZE")]
    pub size: Option<MemorySize>,

    /// Write so much at a time when files are made: a power of two [default: 8M]
    ///
    /// Where the host's file system has large folios (ext4 since Linux 6.16, XFS), content that was written or read ahead by 2
    /// MiB or more lies in memory in large pages, which are cheap to map; what was written by less does not. `--write-size 64K`
    /// measures that.
    #[arg(long, value_name = "SIZE")]
    pub write_size: Option<MemorySize>,

    /// Files that are asked for their attributes [default: 100000]
    #[arg(long, value_name = "COUNT")]
    pub files: Option<u32>,

    /// Seconds that each figure is counted [default: 1]
    #[arg(long, value_name = "SECONDS")]
    pub time: Option<Seconds>,

    /// How often everything is done [default: 3]
    #[arg(long, value_name = "ROUNDS")]
    pub repeat: Option<u32>,

    #[command(flatten)]
    pub common: CommonOptions,
}

#[derive(Debug, clap::Args)]
pub struct BootOptions {
    /// Only these systems and programs; a list of names
    ///
    /// Where the list names no system all take part, and so do programs. A name that is wrong is answered with all there are.
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    pub only: Vec<String>,

    /// How often everything is started
    #[arg(long, value_name = "ROUNDS", default_value_t = 11)]
    pub repeat: u32,

    #[command(flatten)]
    pub common: CommonOptions,
}

/// What every measurement is told.
#[derive(Debug, clap::Args)]
pub struct CommonOptions {
    /// Make files in a new folder of this one
    ///
    /// It says which file system is measured, and guests must see it by the same name.
    #[arg(long, value_name = "PATH", default_value = "/var/tmp")]
    pub dir: PathBuf,

    /// Write everything that was found to FILE
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,

    /// The daemon that serves guests of QEMU, if it is not where packages put it
    #[arg(long, value_name = "PROGRAM")]
    pub virtiofsd: Option<PathBuf>,

    /// The kernel of the Linux guest: a folder with boot/vmlinuz-* and lib/modules, as in Debian's package [default: /]
    #[arg(long, value_name = "FOLDER")]
    pub linux: Option<PathBuf>,

    /// Draw charts into FOLDER, as SVG and PNG
    #[arg(long, value_name = "FOLDER")]
    pub charts: Option<PathBuf>,
}

impl CommonOptions {
    /// Where to find whom Diolkos is compared with.
    pub fn peers(&self) -> Peers {
        Peers { virtiofsd: self.virtiofsd.clone(), linux: self.linux.clone() }
    }
}

/// The hidden commands; [`diolkos_bench::worker::Work`] says what they do.
#[derive(Debug, Subcommand)]
pub enum Worker {
    OpenFstatClose {
        file: PathBuf,
        milliseconds: u64,
        ramp: u64,
    },
    StatFiles {
        folder: PathBuf,
        count: u32,
    },
    Stage {
        from: PathBuf,
        to: PathBuf,
        #[arg(required = true, num_args = 1.., trailing_var_arg = true, allow_hyphen_values = true)]
        command: Vec<String>,
    },
}

/// `--time`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Seconds(pub Duration);

impl std::str::FromStr for Seconds {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let seconds = text.parse().map_err(|_| "give a number of seconds, such as 0.5")?;
        Duration::try_from_secs_f64(seconds).map(Self).map_err(|_| "give a number of seconds, such as 0.5")
    }
}

const MICRO_NOTES: &str = "\
Examples:
  diolkos bench micro
      Everything, as in docs/benchmarks.md.
  diolkos bench micro --quick --only host,dax
      Whether it works at all.
  diolkos bench micro --only 'host,dax,*read-4k' --repeat 7 --json reads.json --charts reads
      Reads of 4 KiB, seven times, with all details, and as charts.

Exit status:
  0; 1 if a system failed at something (the table says which and why); 125 if nothing could be measured; 128+N if
  signal N ended it.";

const BOOT_NOTES: &str = "\
Examples:
  diolkos bench boot
      Everything, as in docs/boot-time.md.
  diolkos bench boot --only host,dax,true,python --repeat 51 --json starts.json --charts starts
      Two programs, many times, with all details, and as charts.

Exit status:
  As of diolkos bench micro.";

#[cfg(test)]
mod tests {
    use clap::Parser;
    use diolkos_bench::worker::Work;

    use super::*;
    use crate::args::{Arguments, Command};

    #[test]
    fn the_worker_understands_what_it_is_asked() {
        let time = Duration::from_millis(1500);
        let asked = [
            Work::OpenFstatClose { file: "/a b".into(), time, ramp: Duration::from_millis(20) },
            Work::StatFiles { folder: "/x".into(), count: 7 },
            Work::Stage { from: "/x".into(), to: "/y".into(), command: vec!["ls".into(), "--all".into(), "-l".into()] },
        ];
        for work in asked {
            let words = ["diolkos", "bench", "worker"].map(str::to_owned).into_iter().chain(work.words());
            match Arguments::try_parse_from(words).unwrap().command {
                Command::Bench(BenchCommand::Worker(worker)) => assert_eq!(Work::from(worker), work),
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn times_are_seconds() {
        assert_eq!("0.25".parse(), Ok(Seconds(Duration::from_millis(250))));
        for text in ["", "-1", "1s", "nan", "1e300"] {
            assert!(text.parse::<Seconds>().is_err(), "{text}");
        }
    }
}
