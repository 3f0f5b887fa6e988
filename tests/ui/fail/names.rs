#[wirecall::service(name = "")]
trait Empty {}

#[wirecall::service(name = "chat.v2")]
trait Dot {}

#[wirecall::service(name = "le café")]
trait Blank {}

#[wirecall::service]
trait Café {}

#[wirecall::service]
trait Methods {
    #[rpc(name = "")]
    async fn empty(&self);
    #[rpc(name = "two words")]
    async fn blank(&self);
    #[rpc(name = "line\n")]
    async fn control(&self);
    async fn öffnen(&self);
    #[rpc(name = "dots.are.fine")]
    async fn dots(&self);
    async fn a_name_of_sixty_five_bytes_is_one_byte_longer_than_what_is_allowd(&self);
}

#[wirecall::service]
trait Duplicates {
    async fn post(&self);
    #[rpc(name = "post")]
    async fn send(&self);
    #[cfg(unix)]
    async fn owner(&self) -> u32;
    #[cfg(not(unix))]
    async fn owner(&self) -> String;
    #[cfg(unix)]
    async fn moved(&self);
    #[cfg(not(unix))]
    #[notify]
    async fn moved(&self);
}

#[wirecall::service]
trait Reserved {
    async fn new(&self);
    async fn named(&self);
    async fn peer(&self);
    async fn to(&self);
}

fn main() {}
