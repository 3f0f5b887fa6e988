#[wirecall::service]
trait Signatures<T: Default> {
    fn not_async(&self) -> u64;
    fn future(&self) -> impl Future<Output = u64> + Send;
    async fn of_type<U>(&self, value: U);
    async fn of_const<const N: usize>(&self, values: [u8; N]);
    async fn of_lifetime<'a>(&self, text: &'a str);
    async fn on_condition(&self)
    where
        T: Clone;
    async unsafe fn is_unsafe(&self);
    async extern "C" fn is_extern(&self);
}

fn main() {}
