#[wirecall::service]
trait Notifications {
    #[notify]
    async fn answered(&self) -> u64;
    #[notify]
    async fn fallible(&self) -> Result<(), wirecall::Status>;
    #[notify]
    fn not_async(&self);
    #[notify]
    async fn unit(&self) -> ();
    #[notify]
    async fn to(&self, text: &str);
}

fn main() {}
