//! Unmodified programs at work on a designated folder in a session. Each works as always, a second session reads what it
//! wrote, and beneath lies ciphertext alone.

use crate::sessions::{run, shell, site, text};
use anyhow::{Context as _, Result, ensure};
use std::path::{Path, PathBuf};
use tobari_tests::{Site, is_sealed};

/// Stands in everything that the programs write.
const MARK: &str = "REIWA8-HIMITSU";

fn missing(program: &str) -> bool {
    let there = ["/usr/bin", "/bin"].iter().any(|folder| Path::new(folder).join(program).exists());
    if !there {
        tobari_tests::skipped(format!("{program} in a session: it is not installed"));
    }
    !there
}

/// Every file of the folder is sealed, and none holds the mark.
fn all_is_sealed(site: &Site) -> Result<()> {
    let mut folders: Vec<PathBuf> = vec![site.folder()];
    let mut files = 0;
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder)? {
            let path = entry?.path();
            if path.ends_with(".tobari") {
                continue;
            }
            if path.is_dir() && !path.is_symlink() {
                folders.push(path);
            } else if path.is_file() {
                files += 1;
                let bytes = std::fs::read(&path)?;
                ensure!(is_sealed(&path), "{path:?} is not sealed");
                ensure!(
                    !bytes.windows(MARK.len()).any(|window| window == MARK.as_bytes()),
                    "{path:?} shows the mark"
                );
            }
        }
    }
    ensure!(files > 0, "the program wrote nothing");
    Ok(())
}

/// Runs `script` in the folder, then in another session `check`, whose output must hold the mark.
fn plays(site: &Site, program: &str, script: &str, check: &str) -> Result<()> {
    if missing(program) {
        return Ok(());
    }
    let folder = site.folder();
    let within = |script: &str| format!("cd '{}' && {}", folder.display(), script.replace("MARK", MARK));
    shell(site, "bucho", &within(&format!("set -e; {script}")))?.ok().with_context(|| program.to_owned())?;
    let read =
        shell(site, "bucho", &within(check))?.ok().with_context(|| format!("{program}: reading again"))?;
    ensure!(read.text().contains(MARK), "{program}: {read:?}");
    all_is_sealed(site).with_context(|| program.to_owned())
}

#[test]
fn command_line_programs_work_on_a_designated_folder() -> Result<()> {
    let Some(site) = site("programs in a session")? else { return Ok(()) };
    plays(
        &site,
        "sh",
        "echo MARK > a.txt; echo more >> a.txt; mv a.txt b.txt; cp b.txt a.txt",
        "cat a.txt b.txt",
    )?;
    plays(&site, "sed", "echo x > s.txt; sed -i s/x/MARK/ s.txt", "cat s.txt")?;
    plays(
        &site,
        "vim",
        "echo x > v.txt; vim -u NONE -es -c 's/x/MARK/' -c wq v.txt < /dev/null",
        "cat v.txt",
    )?;
    plays(
        &site,
        "python3",
        "/usr/bin/python3 -c \"open('p.txt','w').write('MARK'*5000)\"; \
         /usr/bin/python3 -c \"f=open('p.txt','r+b'); f.seek(40000); f.write(b'x'); f.truncate(60000)\"",
        "/usr/bin/python3 -c \"t=open('p.txt').read(); print(len(t), t[:28])\" | grep '^60000'",
    )?;
    plays(
        &site,
        "sqlite3",
        "sqlite3 d.db \"create table t(a); insert into t values('MARK');\"; \
         for i in 1 2 3 4 5; do sqlite3 d.db \"insert into t select 'MARK' || hex(randomblob(2000)) from t;\"; done; \
         sqlite3 d.db 'pragma integrity_check' | grep ok",
        "sqlite3 d.db 'select min(a), count(*) from t' | grep '|32'",
    )?;
    plays(
        &site,
        "tar",
        "mkdir in; echo MARK > in/x; tar czf a.tgz in; mkdir out; tar xzf a.tgz -C out",
        "cat out/in/x",
    )?;
    plays(
        &site,
        "rsync",
        "mkdir r1; echo MARK > r1/x; rsync -a r1/ r2/; rsync -a --checksum r1/ r2/",
        "cat r2/x",
    )?;
    plays(
        &site,
        "7z",
        "echo MARK > z.txt; 7z a z.7z z.txt > /dev/null; mkdir z; 7z x -oz z.7z > /dev/null",
        "cat z/z.txt",
    )?;
    plays(
        &site,
        "git",
        "export HOME=/tmp; git config --global user.email a@b; git config --global user.name a; mkdir g; cd g; git init -q; \
         echo MARK > x; git add x; git commit -qm 'MARK'; echo more >> x; git commit -qam second; git gc -q; git fsck",
        "cd g && git log -p --format=%s",
    )?;
    Ok(())
}

/// Opens each document where it lies, by UNO, changes it, and saves it under its own name.
const EDIT: &str = r#"
import subprocess, sys, time, uno
from com.sun.star.beans import PropertyValue
office = subprocess.Popen(["soffice", "--headless", "--norestore", "--nologo", "--accept=pipe,name=scenario;urp;"])
resolver = uno.getComponentContext().ServiceManager.createInstance("com.sun.star.bridge.UnoUrlResolver")
for attempt in range(1200):
    try:
        context = resolver.resolve("uno:pipe,name=scenario;urp;StarOffice.ComponentContext")
        break
    except Exception:
        if office.poll() is not None: sys.exit("soffice ended")
        time.sleep(0.1)
else: sys.exit("soffice does not answer")
desktop = context.ServiceManager.createInstanceWithContext("com.sun.star.frame.Desktop", context)
hidden = PropertyValue(); hidden.Name, hidden.Value = "Hidden", True
for path in sys.argv[2:]:
    document = desktop.loadComponentFromURL(uno.systemPathToFileUrl(path), "_blank", 0, (hidden,))
    if document is None: sys.exit("cannot load " + path)
    if document.supportsService("com.sun.star.text.TextDocument"):
        if sys.argv[1] == "write": document.Text.insertString(document.Text.getEnd(), "REIWA8-HIMITSU", False)
        text = document.Text.getString()
    else:
        cell = document.Sheets.getByIndex(0).getCellByPosition(0, 9)
        if sys.argv[1] == "write": cell.setString("REIWA8-HIMITSU")
        text = cell.getString()
    if sys.argv[1] == "write": document.store()
    print(path.rsplit(".", 1)[1], "REIWA8-HIMITSU" in text, flush=True)
    document.close(True)
try: desktop.terminate()
except Exception: pass
office.wait()
"#;

#[test]
fn libreoffice_edits_and_saves_documents_in_place() -> Result<()> {
    let Some(site) = site("LibreOffice in a session")? else { return Ok(()) };
    let uno = std::process::Command::new("/usr/bin/python3").args(["-c", "import uno"]).output();
    if missing("soffice") || !uno.is_ok_and(|output| output.status.success()) {
        tobari_tests::skipped("LibreOffice in a session: no python3-uno");
        return Ok(());
    }
    let folder = site.folder();
    let page = site.drop_file("稟議.html", "<html><body><p>予算</p></body></html>".as_bytes())?;
    let table = site.drop_file("表.csv", "番号,金額\n1,2\n".as_bytes())?;
    for (source, filter, kind) in [
        (&page, "HTML (StarWriter)", "docx:MS Word 2007 XML"),
        (&table, "CSV:44,34,UTF8", "xlsx"),
        (&page, "HTML (StarWriter)", "odt"),
    ] {
        let filter = format!("--infilter={filter}");
        let words =
            ["soffice", "--headless", &filter, "--convert-to", kind, "--outdir", text(&folder), text(source)];
        run(&site, "bucho", &words)?.ok().with_context(|| kind.to_owned())?;
    }
    let documents = ["稟議.docx", "表.xlsx", "稟議.odt"].map(|name| folder.join(name));
    let before = documents.iter().map(std::fs::read).collect::<Result<Vec<_>, _>>()?;
    for act in ["write", "read"] {
        let mut words = vec!["/usr/bin/python3", "-c", EDIT, act];
        for document in &documents {
            words.push(text(document));
        }
        let answer = run(&site, "bucho", &words)?.ok().with_context(|| act.to_owned())?;
        ensure!(
            answer.text().lines().filter(|line| line.ends_with("True")).count() == 3,
            "{act}: {answer:?}"
        );
    }
    for (document, before) in documents.iter().zip(before) {
        ensure!(std::fs::read(document)? != before, "{document:?} was not saved");
    }
    // Printed to a file, and read by other programs.
    let words =
        ["soffice", "--headless", "--convert-to", "pdf", "--outdir", text(&folder), text(&documents[0])];
    run(&site, "bucho", &words)?.ok()?;
    if !missing("pdftotext") {
        let pdf = folder.join("稟議.pdf");
        ensure!(run(&site, "bucho", &["pdftotext", text(&pdf), "-"])?.ok()?.text().contains(MARK));
    }
    all_is_sealed(&site)
}
