//! A server that runs already, and is not ours to swap or to stop.

use std::net::SocketAddr;

use crate::release::Release;
use crate::scenario::Swap;
use crate::strategy::{Strategy, StrategyError};

/// It stands at this address.
#[derive(Debug)]
pub struct Standing(pub SocketAddr);

impl Strategy for Standing {
    fn server(&self) -> SocketAddr {
        self.0
    }

    async fn deploy(&mut self, _release: &Release, _swap: &mut Swap) -> Result<(), StrategyError> {
        Ok(())
    }

    fn observe(&mut self, _swaps: &mut [Swap]) -> Result<(), StrategyError> {
        Ok(())
    }

    async fn stop(&mut self) -> Result<(), StrategyError> {
        Ok(())
    }
}
