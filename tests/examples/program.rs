//! An example as a program that runs, with what it prints and what is typed.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::mpsc::{self, Receiver},
    thread,
    time::Duration,
};

/// What has not come by then does not come.
const LONG: Duration = Duration::from_secs(60);

/// An example as `cargo test` has built it, beside the tests.
pub fn example(name: &str) -> Command {
    let mut folder: PathBuf = std::env::current_exe().unwrap();
    folder.pop();
    folder.pop();
    let program = folder
        .join("examples")
        .join(format!("{name}{}", std::env::consts::EXE_SUFFIX));
    assert!(
        program.exists(),
        "run `cargo build --examples` before this test alone"
    );
    Command::new(program)
}

/// A program that runs until the test is over.
pub struct Running {
    child: Child,
    lines: Receiver<String>,
    /// What it has printed, as far as it was read.
    printed: Vec<String>,
    /// What of it no test has waited for yet.
    passed_over: Vec<String>,
}

impl Running {
    pub fn start(command: &mut Command) -> Self {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = mpsc::channel();
        // It ends with the program, or when nobody wants to know any more.
        thread::spawn(move || {
            let mut lines = stdout.lines().map_while(Result::ok);
            lines.try_for_each(|line| sender.send(line))
        });
        Running {
            child,
            lines,
            printed: Vec::new(),
            passed_over: Vec::new(),
        }
    }

    /// The next line.
    pub fn line(&mut self) -> String {
        let Ok(line) = self.lines.recv_timeout(LONG) else {
            panic!("nothing comes after {:?}", self.printed);
        };
        self.printed.push(line.clone());
        line
    }

    /// Waits for this line. Others may come before it, and may be waited for later.
    pub fn prints(&mut self, expected: &str) {
        let mut passed = self.passed_over.iter();
        if let Some(place) = passed.position(|line| line == expected) {
            self.passed_over.remove(place);
            return;
        }
        loop {
            let line = self.line();
            if line == expected {
                return;
            }
            self.passed_over.push(line);
        }
    }

    /// What it has printed up to the last line that was waited for.
    pub fn printed(&self) -> impl Iterator<Item = &str> {
        self.printed.iter().map(String::as_str)
    }

    pub fn types(&mut self, line: &str) {
        writeln!(self.child.stdin.as_mut().unwrap(), "{line}").unwrap();
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Ends the input, and waits for the program to end by itself, with 0.
    pub fn ends(mut self) {
        drop(self.child.stdin.take());
        assert!(self.child.wait().unwrap().success());
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
