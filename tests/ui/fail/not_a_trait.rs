#[wirecall::service]
struct Chat;

#[wirecall::service]
async fn post(_text: &str) {}

#[wirecall::service]
impl Chat {}

fn main() {}
