//! What the account may have at most.

use serde_json::json;

use super::{Cloud, CloudError, service};

impl Cloud {
    /// The value of a quota by its codes, such as `ec2` and `L-1216C47A` (vCPUs on demand); None where the region tells none.
    pub async fn quota(
        &self,
        service_code: &str,
        quota_code: &str,
    ) -> Result<Option<f64>, CloudError> {
        let purpose = format!("read the quota {quota_code} of {service_code}");
        let told = json!({"ServiceCode": service_code, "QuotaCode": quota_code});
        let asked = self.json(
            &service::QUOTAS,
            "ServiceQuotasV20190624.GetServiceQuota",
            &purpose,
            &told,
        );
        match asked.await {
            Ok(told) => Ok(told["Quota"]["Value"].as_f64()),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }
}
