//! `--only`: a list of systems and jobs, by name or with `*` for any letters.

use crate::job::Job;
use crate::system::Kind;

/// Which systems and jobs take part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selection {
    /// In the order of the report.
    pub systems: Vec<Kind>,
    /// The same.
    pub jobs: Vec<Job>,
}

impl Selection {
    /// What `words` name among all there is; where no word names a system all systems take part, and so do jobs.
    ///
    /// # Errors
    /// A word that names nothing, and what there is.
    pub fn of(words: &[String]) -> Result<Self, String> {
        let (mut systems, mut jobs) = (Kind::ALL.to_vec(), crate::job::all());
        let (system_named, job_named) = (
            |word: &str| systems.iter().any(|kind| matches(word, kind.name())),
            |word: &str| jobs.iter().any(|job| matches(word, &job.name)),
        );
        let (for_systems, for_jobs) =
            (words.iter().any(|word| system_named(word)), words.iter().any(|word| job_named(word)));
        if let Some(word) = words.iter().find(|word| !system_named(word) && !job_named(word)) {
            let systems: Vec<_> = systems.iter().map(|kind| kind.name()).collect();
            let jobs: Vec<_> = jobs.iter().map(|job| job.name.as_str()).collect();
            return Err(format!(
                "--only {word}: there is no such system or job; systems are {}; jobs are {}",
                systems.join(", "),
                jobs.join(", ")
            ));
        }
        let named = |name: &str| words.iter().any(|word| matches(word, name));
        systems.retain(|kind| !for_systems || named(kind.name()));
        jobs.retain(|job| !for_jobs || named(&job.name));
        Ok(Self { systems, jobs })
    }
}

/// Whether `pattern`, in which `*` stands for any letters, is `name`.
fn matches(pattern: &str, name: &str) -> bool {
    let Some((head, rest)) = pattern.split_once('*') else { return pattern == name };
    let Some(tail) = name.strip_prefix(head) else { return false };
    (0..=tail.len()).any(|skip| tail.is_char_boundary(skip) && matches(rest, &tail[skip..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn select(words: &[&str]) -> Result<(Vec<&'static str>, Vec<String>), String> {
        let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        let Selection { systems, jobs } = Selection::of(&words)?;
        Ok((systems.iter().map(|kind| kind.name()).collect(), jobs.into_iter().map(|job| job.name).collect()))
    }

    #[test]
    fn without_words_everything_takes_part() {
        let (systems, jobs) = select(&[]).unwrap();
        assert_eq!(systems.len(), Kind::ALL.len());
        assert_eq!(jobs.len(), crate::job::all().len());
    }

    #[test]
    fn words_of_one_kind_leave_the_other_alone() {
        let (systems, jobs) = select(&["host", "dax"]).unwrap();
        assert_eq!(systems, ["host", "dax"]);
        assert_eq!(jobs.len(), crate::job::all().len());
        let (systems, jobs) = select(&["write-1m", "mmap-*-4k"]).unwrap();
        assert_eq!(systems.len(), Kind::ALL.len());
        assert_eq!(jobs, ["mmap-read-4k", "mmap-randread-4k", "write-1m", "mmap-randwrite-4k"]);
    }

    #[test]
    fn a_word_that_names_nothing_is_refused() {
        let error = select(&["host", "speed"]).unwrap_err();
        assert!(error.starts_with("--only speed: ") && error.contains("nodax") && error.contains("read-4k"), "{error}");
    }
}
