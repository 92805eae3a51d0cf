use pyapm::{intake::*, probes::*, host, python};
use std::time::*;
fn main() {
    let pid: u32 = std::env::args().nth(1).unwrap().parse().unwrap();
    let btf = host::Btf::running_kernel().unwrap();
    let settings = host::settings(&btf).unwrap();
    let interp = python::inspect(pid).unwrap();
    eprintln!("{interp:?}");
    let mut probes = Probes::load(Setup { settings, ring_bytes: 8 << 20 }).unwrap();
    let mut tables = probes.tables().unwrap();
    tables.watch(pid, pyapm_wire::target::Target { layout: interp.layout, generation: 1 }, false).unwrap();
    probes.attach_lifecycle().unwrap(); probes.attach_io().unwrap(); probes.attach_sampling(99).unwrap(); probes.load_mysql().unwrap();
    if let Ok(maps) = pyapm::binaries::mappings(pid) { for m in maps.iter().filter(|m| m.executable && m.path.to_string_lossy().contains("libmariadb")) {
        let image = pyapm::binaries::Image::open(&m.reachable(pid)).unwrap();
        let site = find_site(&image, "mysql_real_query").unwrap(); eprintln!("{site:?}");
        probes.attach_mysql(&UprobeSite { path: m.reachable(pid), file_offset: site.file_offset }).unwrap();
    } }
    let mut reader = Reader::new(probes.ring().unwrap());
    let memory = python::ProcessMemory::new(pid);
    let start = Instant::now();
    let mut n = 0u64;
    while start.elapsed() < Duration::from_secs(4) {
        reader.drain(10000, |e| { n += 1; if n < 200 { match &e.body { Body::Stack { stack, frames, status } => {
            println!("stack {stack:?} {status:?}");
            for f in frames { match python::read_code(&memory, &interp.offsets, f.code) { Ok(c) => println!("   {} {}:{:?} ident {}", c.function, c.file, c.lines.line(f.instruction), c.identity == f.identity), Err(x) => println!("   ? {x}") } }
        } Body::Io(io) => println!("io {} {:?} off {} moved {} head {:?} tail {:?} eof {}", e.tid, io.direction, io.offset, io.moved, String::from_utf8_lossy(&io.head[..io.head.len().min(60)]), io.tail.len(), io.end_of_stream),
          Body::Statement(s) => println!("statement {} {:?} {:?}", e.tid, String::from_utf8_lossy(s.text), s.stack), b => println!("{} {b:?}", e.tid) } } });
        std::thread::sleep(Duration::from_millis(10));
    }
    println!("{n} events, counts {:?}, {:?}", tables.counts().unwrap(), reader.delivered());
}
