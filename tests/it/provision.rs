//! Provisioning against moto, an emulator of AWS that KOPS_MIRROR_TEST_MOTO names (tests/servers/start.sh moto), behind an overlay for
//! what moto lacks or gets wrong.

mod again;
mod ami_build;
mod ami_build_unhappy;
mod ami_command;
mod ami_copy;
mod ami_copy_unhappy;
mod ami_leftovers;
mod ami_resolve;
mod ami_wait;
mod cloud;
mod desk;
mod destroy;
mod first_bucket;
mod from_the_file;
mod ground;
mod image_step;
mod machine;
mod network;
mod network_moved;
mod overlay;
mod own_network;
mod preflight;
mod quotas;
mod real_kops;
mod registry;
mod site;
mod state_bucket;
mod world;
