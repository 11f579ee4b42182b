//! The lab itself.
use podsonar_lab::Lab;

#[test]
fn hosts_on_a_veth_reach_each_other_by_both_families() {
    let lab = Lab::new().unwrap();
    let (a, b) = (lab.host("a").unwrap(), lab.host("b").unwrap());
    let veth = lab.veth(&a, &b).unwrap();
    a.run(&format!("ping -c 1 -W 5 {}", veth.right.v4)).unwrap();
    a.run(&format!("ping -c 1 -W 5 {}", veth.right.v6)).unwrap();
}
