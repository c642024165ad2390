//! Arguments in, exit code out.

use std::process::ExitCode;

use tikv_jemalloc_ctl::background_thread;
use tikv_jemallocator::Jemalloc;

/// Set up in `.cargo/config.toml`. The library leaves the choice to whoever links it.
#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

fn main() -> ExitCode {
    // The first map asks the kernel for cheap barriers. Once there is a second thread, that takes it 7 to 20 ms.
    drop(papaya::HashMap::<(), ()>::new());
    // Without it, what a burst has left behind is given back once there is work again.
    background_thread::write(true).ok();
    pillion::cli::main()
}
