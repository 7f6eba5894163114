//! What the guests of Linux have in common: a script as their first program, and a console to find its output on.

use std::path::Path;

use crate::runner::{Output, last_words};

/// Lines of the console before and after what the program prints; the latter ends with its status.
const BEGIN: &str = "-- begin";
const END: &str = "-- end ";

/// Words as a shell takes them.
pub fn quoted<'a>(words: impl IntoIterator<Item = &'a str>) -> String {
    let quote = |word: &str| format!("'{}'", word.replace('\'', r"'\''"));
    words.into_iter().map(quote).collect::<Vec<_>>().join(" ")
}

/// A script that does `before`, then `program`, tells how it ended, and switches the machine off.
pub fn script(busybox: &Path, before: &str, program: &str) -> String {
    let busybox = busybox.display();
    format!(
        "#!{busybox} sh\nexport PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root\n{before}echo '{BEGIN}'\n{program}\n\
         echo \"{END}$?\"\n{busybox} poweroff -f\n"
    )
}

/// What the program printed, among everything else on the console.
///
/// # Errors
/// It did not succeed, or never began.
pub fn printed(output: &Output) -> Result<String, String> {
    // Consoles end lines as terminals do.
    let console = output.stdout.replace('\r', "");
    let Some((_, rest)) = console.split_once(&format!("{BEGIN}\n")) else {
        let words = [last_words(&console), last_words(&output.stderr)].join("; ");
        return Err(format!("the guest never came to the program: {words}"));
    };
    let Some((printed, end)) = rest.rsplit_once(END) else {
        return Err(format!("the guest ended before the program did: {}", last_words(rest)));
    };
    match end.lines().next().unwrap_or_default() {
        "0" => Ok(printed.to_owned()),
        status => Err(format!("status {status}: {}", last_words(printed))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn console(text: &str) -> Output {
        Output { stdout: text.to_owned(), ..Output::default() }
    }

    #[test]
    fn what_the_program_printed_is_found_on_the_console() {
        let whole = console("Linux is here\r\n-- begin\r\n{\r\n}\r\n-- end 0\r\nreboot: Power down\r\n");
        assert_eq!(printed(&whole).as_deref(), Ok("{\n}\n"));
        for (text, why) in [
            ("Kernel panic\n", "never came to the program: Kernel panic"),
            ("-- begin\nhalf", "ended before the program did: half"),
            ("-- begin\nfio: no\n-- end 1\n", "status 1: fio: no"),
            ("-- begin\n-- end ", "status "),
        ] {
            assert!(printed(&console(text)).unwrap_err().contains(why), "{text}");
        }
    }

    #[test]
    fn words_reach_the_program_as_they_are() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("script");
        let text = script(Path::new("/bin/sh -e\n#"), "", &format!("printf '%s|' {}", quoted(["a b", "it's", "$x"])));
        std::fs::write(&path, text.replace("/bin/sh -e\n# poweroff", ": ")).unwrap();
        let output = std::process::Command::new("/bin/sh").arg(path).output().unwrap();
        let output = console(&String::from_utf8(output.stdout).unwrap());
        assert_eq!(printed(&output).as_deref(), Ok("a b|it's|$x|"));
    }
}
