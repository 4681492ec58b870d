//! The calls to the TPM.

use std::str::FromStr as _;
use tss_esapi::attributes::{NvIndexAttributesBuilder, ObjectAttributesBuilder};
use tss_esapi::constants::NvIndexType;
use tss_esapi::handles::{KeyHandle, NvIndexHandle, NvIndexTpmHandle, TpmHandle};
use tss_esapi::interface_types::algorithm::{HashingAlgorithm, PublicAlgorithm};
use tss_esapi::interface_types::ecc::EccCurve;
use tss_esapi::interface_types::resource_handles::{Hierarchy, NvAuth, Provision};
use tss_esapi::structures::{
    Auth, Digest, EccScheme, KeyDerivationFunctionScheme, KeyedHashScheme, NvPublicBuilder, Private, Public,
    PublicBuilder, PublicEccParametersBuilder, PublicKeyedHashParameters, SensitiveData,
    SymmetricDefinitionObject,
};
use tss_esapi::traits::{Marshall as _, UnMarshall as _};
use tss_esapi::{Context, TctiNameConf};
use zeroize::Zeroizing;

/// Indices that the owner of a TPM gives out are tried from here on.
const FIRST_INDEX: u32 = 0x0180_7462;
/// How many.
const INDICES: u32 = 64;
/// Size of a counter, in bytes.
const COUNTER: u16 = 8;

/// Why the TPM did not do it.
#[derive(Debug, thiserror::Error)]
pub enum TpmError {
    /// The name of the TPM's interface is not one.
    #[error("'{0}' names no TPM: write device:/dev/tpmrm0, or what else the TPM libraries know")]
    Name(String),
    /// The TPM, or the way to it.
    #[error("the TPM: {0}")]
    Tpm(#[from] tss_esapi::Error),
    /// It answers something else than was asked.
    #[error("the TPM: {0}")]
    Answer(&'static str),
}

/// A key that one TPM opens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sealed {
    /// What it is, as the TPM marshals it.
    pub public: Vec<u8>,
    /// The key, sealed by the TPM.
    pub private: Vec<u8>,
}

/// A TPM, by the name of its interface.
#[derive(Debug, Clone)]
pub struct Tpm(TctiNameConf);

impl Tpm {
    /// The TPM with this name, such as `device:/dev/tpmrm0`. Nothing is asked of it yet.
    ///
    /// # Errors
    /// When it is no name.
    pub fn new(name: &str) -> Result<Self, TpmError> {
        TctiNameConf::from_str(name).map(Self).map_err(|_| TpmError::Name(name.to_owned()))
    }

    fn connect(&self) -> Result<Context, TpmError> {
        Ok(Context::new(self.0.clone())?)
    }

    /// Seals a key to the TPM.
    ///
    /// # Errors
    /// When the TPM is not there or refuses, such as because its owner set a password.
    pub fn seal(&self, key: &[u8; 32]) -> Result<Sealed, TpmError> {
        let mut context = self.connect()?;
        let attributes = ObjectAttributesBuilder::new()
            .with_fixed_tpm(true)
            .with_fixed_parent(true)
            .with_user_with_auth(true)
            .with_no_da(true)
            .build()?;
        let public = PublicBuilder::new()
            .with_public_algorithm(PublicAlgorithm::KeyedHash)
            .with_name_hashing_algorithm(HashingAlgorithm::Sha256)
            .with_object_attributes(attributes)
            .with_keyed_hash_parameters(PublicKeyedHashParameters::new(KeyedHashScheme::Null))
            .with_keyed_hash_unique_identifier(Digest::default())
            .build()?;
        let secret = SensitiveData::try_from(key.as_slice())?;
        let made = context.execute_with_nullauth_session(|context| {
            let primary = primary(context)?;
            context.create(primary, public, None, Some(secret), None, None)
        })?;
        Ok(Sealed { public: made.out_public.marshall()?, private: made.out_private.value().to_vec() })
    }

    /// Opens what [`Tpm::seal`] made.
    ///
    /// # Errors
    /// When another TPM sealed it, it was changed, or the TPM is not there.
    pub fn unseal(&self, sealed: &Sealed) -> Result<Zeroizing<[u8; 32]>, TpmError> {
        let mut context = self.connect()?;
        let public = Public::unmarshall(&sealed.public)?;
        let private = Private::try_from(sealed.private.as_slice())?;
        let key = context.execute_with_nullauth_session(|context| {
            let primary = primary(context)?;
            let loaded = context.load(primary, private, public)?;
            context.unseal(loaded.into())
        })?;
        let key =
            key.value().try_into().map_err(|_| TpmError::Answer("the sealed key has another length"))?;
        Ok(Zeroizing::new(key))
    }

    /// Makes a counter that only who knows `secret` counts up and reads; gives its index. It begins where no counter of this TPM has been.
    ///
    /// # Errors
    /// When the TPM has no room for it, is not there, or refuses.
    pub fn make_counter(&self, secret: &[u8; 32]) -> Result<u32, TpmError> {
        let mut context = self.connect()?;
        let attributes = NvIndexAttributesBuilder::new()
            .with_nv_index_type(NvIndexType::Counter)
            .with_auth_read(true)
            .with_auth_write(true)
            .with_no_da(true)
            .build()?;
        let mut last = TpmError::Answer("it has no room for a counter");
        for index in FIRST_INDEX..FIRST_INDEX + INDICES {
            if opened(&mut context, index).is_ok() {
                continue;
            }
            let public = NvPublicBuilder::new()
                .with_nv_index(NvIndexTpmHandle::new(index)?)
                .with_index_name_algorithm(HashingAlgorithm::Sha256)
                .with_index_attributes(attributes)
                .with_data_area_size(COUNTER.into())
                .build()?;
            let auth = Auth::try_from(secret.as_slice())?;
            let made = context.execute_with_nullauth_session(|context| {
                context.nv_define_space(Provision::Owner, Some(auth), public)
            });
            match made {
                Ok(_) => {
                    drop(context);
                    // It has no value before its first step.
                    self.count(index, secret)?;
                    return Ok(index);
                }
                Err(error) => last = error.into(),
            }
        }
        Err(last)
    }

    /// Removes a counter.
    ///
    /// # Errors
    /// When there is none, or the TPM is not there.
    pub fn remove_counter(&self, index: u32) -> Result<(), TpmError> {
        let mut context = self.connect()?;
        let handle = opened(&mut context, index)?;
        Ok(context
            .execute_with_nullauth_session(|context| context.nv_undefine_space(Provision::Owner, handle))?)
    }

    /// Where a counter stands.
    ///
    /// # Errors
    /// When there is none, its secret is another one, or the TPM is not there.
    pub fn counter(&self, index: u32, secret: &[u8; 32]) -> Result<u64, TpmError> {
        let mut context = self.connect()?;
        let handle = with_secret(&mut context, index, secret)?;
        let bytes = context.execute_with_nullauth_session(|context| {
            context.nv_read(NvAuth::NvIndex(handle), handle, COUNTER, 0)
        })?;
        let bytes =
            bytes.value().try_into().map_err(|_| TpmError::Answer("the counter has another length"))?;
        Ok(u64::from_be_bytes(bytes))
    }

    /// Counts up by one.
    ///
    /// # Errors
    /// When there is no such counter, its secret is another one, or the TPM is not there.
    pub fn count(&self, index: u32, secret: &[u8; 32]) -> Result<(), TpmError> {
        let mut context = self.connect()?;
        let handle = with_secret(&mut context, index, secret)?;
        Ok(context
            .execute_with_nullauth_session(|context| context.nv_increment(NvAuth::NvIndex(handle), handle))?)
    }
}

/// The storage key of the owner hierarchy: the same each time, from the TPM's own seed.
fn primary(context: &mut Context) -> Result<KeyHandle, tss_esapi::Error> {
    let attributes = ObjectAttributesBuilder::new()
        .with_fixed_tpm(true)
        .with_fixed_parent(true)
        .with_sensitive_data_origin(true)
        .with_user_with_auth(true)
        .with_no_da(true)
        .with_decrypt(true)
        .with_restricted(true)
        .build()?;
    let parameters = PublicEccParametersBuilder::new()
        .with_symmetric(SymmetricDefinitionObject::AES_128_CFB)
        .with_ecc_scheme(EccScheme::Null)
        .with_curve(EccCurve::NistP256)
        .with_key_derivation_function_scheme(KeyDerivationFunctionScheme::Null)
        .with_is_decryption_key(true)
        .with_restricted(true)
        .build()?;
    let public = PublicBuilder::new()
        .with_public_algorithm(PublicAlgorithm::Ecc)
        .with_name_hashing_algorithm(HashingAlgorithm::Sha256)
        .with_object_attributes(attributes)
        .with_ecc_parameters(parameters)
        .with_ecc_unique_identifier(tss_esapi::structures::EccPoint::default())
        .build()?;
    Ok(context.create_primary(Hierarchy::Owner, public, None, None, None, None)?.key_handle)
}

fn opened(context: &mut Context, index: u32) -> Result<NvIndexHandle, TpmError> {
    let handle = TpmHandle::NvIndex(NvIndexTpmHandle::new(index)?);
    Ok(context.execute_without_session(|context| context.tr_from_tpm_public(handle))?.into())
}

fn with_secret(context: &mut Context, index: u32, secret: &[u8; 32]) -> Result<NvIndexHandle, TpmError> {
    let handle = opened(context, index)?;
    context.tr_set_auth(handle.into(), Auth::try_from(secret.as_slice())?)?;
    Ok(handle)
}
