use pyapm::probes::*;
fn main() {
    let probes = Probes::load(Setup { settings: Default::default(), ring_bytes: 1 << 20 });
    let mut probes = match probes { Ok(p) => p, Err(e) => { eprintln!("{:#}", anyhow::Error::from(e)); return } };
    for (n, r) in [("lifecycle", probes.attach_lifecycle()), ("io", probes.attach_io()), ("sampling", probes.attach_sampling(99)), ("mysql", probes.load_mysql())] {
        match r { Ok(()) => eprintln!("{n} ok"), Err(e) => eprintln!("{n}: {:#}", anyhow::Error::from(e)) }
    }
    std::thread::sleep(std::time::Duration::from_secs(2));
}
