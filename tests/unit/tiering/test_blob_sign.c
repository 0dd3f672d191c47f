/* Goal: requests are signed exactly as AWS documents it, for any name that we can have.
 * How: the examples of "Authenticating Requests: Using the Authorization Header" in the S3
 * documentation, with the signatures printed there. A whole server's check is in test_blob_s3. */
#include <criterion/criterion.h>
#include <string.h>

#include "tiering/blob_sign.h"

#define EMPTY "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
#define HOST                                                                                       \
    {                                                                                              \
        "host", "examplebucket.s3.amazonaws.com"                                                   \
    }
#define DATE                                                                                       \
    {                                                                                              \
        "x-amz-date", "20130524T000000Z"                                                           \
    }

static const struct gwi_sign_key key = {
    .access = "AKIAIOSFODNN7EXAMPLE",
    .secret = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
    .region = "us-east-1",
};

static void expect(const char *method, const char *path, const char *query, const char *hash,
                   const struct gwi_sign_header *headers, uint32_t count, const char *authorization)
{
    char out[1024], time[GWI_SIGN_TIME_BYTES];
    const struct gwi_sign_request request = {method, path, query, headers, count, hash};
    gwi_sign_time(1369353600, time);
    cr_expect_str_eq(time, "20130524T000000Z");
    cr_assert_eq(gwi_sign(&key, &request, time, out, sizeof out), GW_OK);
    cr_expect_str_eq(out, authorization);
}

Test(blob_sign, get_object)
{
    const struct gwi_sign_header headers[] = {HOST,
                                              {"range", "bytes=0-9"},
                                              {"x-amz-content-sha256", EMPTY},
                                              DATE};
    expect("GET", "/test.txt", "", EMPTY, headers, 4,
           "AWS4-HMAC-SHA256 "
           "Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request,"
           "SignedHeaders=host;range;x-amz-content-sha256;x-amz-date,"
           "Signature=f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41");
}

Test(blob_sign, put_object)
{
    char hash[GWI_SIGN_HASH_BYTES], path[64];
    gwi_sign_hash("Welcome to Amazon S3.", 21, hash);
    cr_expect_str_eq(hash, "44ce7dd67c959e0d3524ffac1771dfbba87d2b6b4b4e99e42034a8b803f8b072");
    cr_assert_eq(gwi_sign_encode("/test$file.text", true, path, sizeof path), GW_OK);
    const struct gwi_sign_header headers[] = {{"date", "Fri, 24 May 2013 00:00:00 GMT"},
                                              HOST,
                                              {"x-amz-content-sha256", hash},
                                              DATE,
                                              {"x-amz-storage-class", "REDUCED_REDUNDANCY"}};
    expect("PUT", path, "", hash, headers, 5,
           "AWS4-HMAC-SHA256 "
           "Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request,"
           "SignedHeaders=date;host;x-amz-content-sha256;x-amz-date;x-amz-storage-class,"
           "Signature=98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd");
}

Test(blob_sign, get_bucket_lifecycle)
{
    const struct gwi_sign_header headers[] = {HOST, {"x-amz-content-sha256", EMPTY}, DATE};
    expect("GET", "/", "lifecycle=", EMPTY, headers, 3,
           "AWS4-HMAC-SHA256 "
           "Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request,"
           "SignedHeaders=host;x-amz-content-sha256;x-amz-date,"
           "Signature=fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543");
}

Test(blob_sign, list_objects)
{
    const struct gwi_sign_header headers[] = {HOST, {"x-amz-content-sha256", EMPTY}, DATE};
    expect("GET", "/", "max-keys=2&prefix=J", EMPTY, headers, 3,
           "AWS4-HMAC-SHA256 "
           "Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request,"
           "SignedHeaders=host;x-amz-content-sha256;x-amz-date,"
           "Signature=34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7");
}

Test(blob_sign, names_are_encoded_byte_by_byte)
{
    char out[64], small[7];
    cr_expect_eq(gwi_sign_encode("a/b c+~._-\xc3\xa9%", true, out, sizeof out), GW_OK);
    cr_expect_str_eq(out, "a/b%20c%2B~._-%C3%A9%25");
    cr_expect_eq(gwi_sign_encode("a/b", false, out, sizeof out), GW_OK);
    cr_expect_str_eq(out, "a%2Fb");
    cr_expect_eq(gwi_sign_encode("a%bcd", false, small, sizeof small), GW_E_TOO_LARGE);
    cr_expect_eq(gwi_sign_encode("a%bc", false, small, sizeof small), GW_OK);
    cr_expect_str_eq(small, "a%25bc");
}

/* Spaces at the ends do not count, several are one. */
Test(blob_sign, header_values_are_trimmed)
{
    char one[1024], two[1024];
    const struct gwi_sign_header a[] = {HOST, {"range", "bytes=0-9  x"}, DATE};
    const struct gwi_sign_header b[] = {HOST, {"range", "  bytes=0-9 x "}, DATE};
    const struct gwi_sign_request first = {"GET", "/", "", a, 3, EMPTY};
    const struct gwi_sign_request second = {"GET", "/", "", b, 3, EMPTY};
    cr_assert_eq(gwi_sign(&key, &first, "20130524T000000Z", one, sizeof one), GW_OK);
    cr_assert_eq(gwi_sign(&key, &second, "20130524T000000Z", two, sizeof two), GW_OK);
    cr_expect_str_eq(one, two);
    cr_expect_eq(gwi_sign(&key, &first, "20130524T000000Z", one, 100), GW_E_TOO_LARGE);
}
