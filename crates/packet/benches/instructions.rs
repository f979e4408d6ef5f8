//! Runs one operation of `benches/packet` a given number of times, so that `scripts/callgrind.sh` can
//! count its instructions: `instructions list`, or `instructions INDEX TIMES`.

#[path = "packet/inputs.rs"]
mod inputs;
#[path = "packet/ops.rs"]
mod ops;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    let mut operations = ops::all();
    match &args[..] {
        [list] if list == "list" => {
            for (index, operation) in operations.iter().enumerate() {
                let amount = match operation.work {
                    ops::Work::Bytes(bytes) => format!("{bytes} bytes"),
                    ops::Work::Packets(packets) => format!("{packets} packets"),
                };
                println!("{index}\t{}\t{}\t{amount}", operation.group, operation.library);
            }
        }
        // `reset` runs only what is not to be counted, so that it can be taken off.
        [index, times, rest @ ..] => {
            let (index, times): (usize, u32) = (index.parse().unwrap(), times.parse().unwrap());
            let operation = &mut operations[index];
            for _ in 0..times {
                if let Some(reset) = &mut operation.reset {
                    reset();
                }
                if rest.is_empty() {
                    (operation.run)();
                }
            }
        }
        _ => println!("instructions: see scripts/callgrind.sh"),
    }
}
