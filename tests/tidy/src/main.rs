//! `make tidy-figures`: prints the figures of the working tree, or of the commit that the first argument names.

use cloakroom_tidy::figures::Figures;
use cloakroom_tidy::tree::Tree;

#[expect(clippy::print_stdout, reason = "the figures are the program's output")]
fn main() {
    let revision = std::env::args().nth(1);
    let tree = revision.map_or_else(Tree::of_working_tree, |name| Tree::of_revision(&name));
    print!("{}", Figures::new(tree));
}
