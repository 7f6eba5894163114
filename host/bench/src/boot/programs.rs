//! The programs whose start is measured, from nothing at all to a web application.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;

use crate::runner::{Invocation, Runner, last_words};
use crate::system::{Finder, Missing, words};

/// Our own programs in Java, as they are handed to the compiler.
const SOURCES: [(&str, &str); 2] =
    [("Hello.java", include_str!("../../java/Hello.java")), ("Web.java", include_str!("../../java/Web.java"))];

/// Where Debian puts libraries of Java.
const LIBRARIES: &str = "usr/share/java";
/// What the web application is made of, and the package that has it.
const WEB: [(&str, &str); 21] = [
    ("spring3-aop", "libspring-core-java"),
    ("spring3-beans", "libspring-beans-java"),
    ("spring3-context", "libspring-context-java"),
    ("spring3-core", "libspring-core-java"),
    ("spring3-expression", "libspring-expression-java"),
    ("spring3-web", "libspring-web-java"),
    ("spring3-web.servlet", "libspring-web-servlet-java"),
    ("commons-logging", "libcommons-logging-java"),
    ("tomcat9-annotations-api", "libtomcat9-java"),
    ("tomcat9-api", "libtomcat9-java"),
    ("tomcat9-catalina", "libtomcat9-java"),
    ("tomcat9-coyote", "libtomcat9-java"),
    ("tomcat9-el-api", "libtomcat9-java"),
    ("tomcat9-jasper", "libtomcat9-java"),
    ("tomcat9-jaspic-api", "libtomcat9-java"),
    ("tomcat9-jni", "libtomcat9-java"),
    ("tomcat9-jsp-api", "libtomcat9-java"),
    ("tomcat9-juli", "libtomcat9-java"),
    ("tomcat9-servlet-api", "libtomcat9-java"),
    ("tomcat9-util", "libtomcat9-java"),
    ("tomcat9-util-scan", "libtomcat9-java"),
];

/// What is started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Program {
    /// `/bin/true`: two files and the linker.
    True,
    /// Python, which has something to say.
    Python,
    /// Java, the same.
    Java,
    /// A web application of Spring's in Tomcat, until it says that it has started.
    Web,
}

impl Program {
    /// In the order of the report.
    pub const ALL: [Self; 4] = [Self::True, Self::Python, Self::Java, Self::Web];

    /// As in the report and for `--only`.
    pub fn name(self) -> &'static str {
        match self {
            Self::True => "true",
            Self::Python => "python",
            Self::Java => "java",
            Self::Web => "web",
        }
    }

    /// What it is.
    pub fn title(self) -> &'static str {
        match self {
            Self::True => "/bin/true",
            Self::Python => "Python prints a word",
            Self::Java => "Java prints a word",
            Self::Web => "a web application (Spring, Tomcat) starts",
        }
    }

    /// What it prints if it did what it should.
    pub fn prints(self) -> &'static str {
        match self {
            Self::True => "",
            Self::Python | Self::Java | Self::Web => "started",
        }
    }
}

/// The command of `program`. Its classes, if it has any, are made in `folder`.
///
/// # Errors
/// What is not there, and what to install.
pub fn prepare(
    program: Program,
    folder: &Path,
    finder: &Finder,
    runner: &mut dyn Runner,
) -> Result<Vec<String>, Missing> {
    let path = |path: PathBuf| path.display().to_string();
    match program {
        Program::True => Ok(vec![path(finder.needed("true", "coreutils")?)]),
        Program::Python => {
            // Debian's own: one that somebody put before it may be a script, which starts other programs.
            let python = finder.first(&["/usr/bin/python3"]).ok_or_else(|| Missing {
                why: "/usr/bin/python3 is not there".to_owned(),
                remedy: "apt install python3".to_owned(),
            });
            let python = path(python?);
            Ok(vec![python, "-c".to_owned(), "print('started')".to_owned()])
        }
        Program::Java => java("Hello", &[], folder, finder, runner),
        Program::Web => java("Web", &libraries(finder)?, folder, finder, runner),
    }
}

/// The archives of the web application.
fn libraries(finder: &Finder) -> Result<Vec<PathBuf>, Missing> {
    let library = |(name, package): (&str, &str)| {
        let path = finder.root().join(LIBRARIES).join(format!("{name}.jar"));
        let missing =
            || Missing { why: format!("{} is not there", path.display()), remedy: format!("apt install {package}") };
        if path.is_file() { Ok(path) } else { Err(missing()) }
    };
    WEB.into_iter().map(library).collect()
}

/// Compiles the class `name` and tells how to run it.
fn java(
    name: &str,
    libraries: &[PathBuf],
    folder: &Path,
    finder: &Finder,
    runner: &mut dyn Runner,
) -> Result<Vec<String>, Missing> {
    let package = "openjdk-17-jdk-headless";
    let (compiler, java) = (finder.needed("javac", package)?, finder.needed("java", package)?);
    let failed = |why: String| Missing { why, remedy: format!("see that {} works", compiler.display()) };
    let file = format!("{name}.java");
    let (_, text) = SOURCES.into_iter().find(|(source, _)| *source == file).expect("every class has its source");
    let source = folder.join(&file);
    fs::write(&source, text).map_err(|error| failed(format!("{}: {error}", source.display())))?;
    let mut path = folder.display().to_string();
    for library in libraries {
        path = format!("{path}:{}", library.display());
    }
    let mut command = words([&compiler]);
    // Spring's own reader of classes knows this format; newer ones it does not.
    command.extend(words(["--release", "8", "-nowarn", "-Xlint:-options", "-classpath", &path, "-d"]));
    command.extend(words([folder, &source]));
    let invocation = Invocation { command, helpers: Vec::new(), patience: Duration::from_secs(300) };
    let output = runner.run(&invocation).map_err(|error| failed(error.to_string()))?;
    if output.status != 0 {
        return Err(failed(format!("{file} does not compile: {}", last_words(&output.stderr))));
    }
    Ok([java.display().to_string().as_str(), "-classpath", &path, name].map(str::to_owned).into())
}
