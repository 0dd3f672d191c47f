/* Goal: a page of a list is taken as it is or refused, an error's code is found, and no bytes lead
 * outside of them.
 * How: pages as S3, s3rver and MinIO write them, and each cut at every byte and with every byte
 * changed. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tiering/blob_xml.h"

static const char page_text[] =
    "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n"
    "<!-- a list -->\n"
    "<ListBucketResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">\n"
    "  <Name>bucket</Name><Prefix/><KeyCount>2</KeyCount><MaxKeys>1000</MaxKeys>\n"
    "  <IsTruncated>true</IsTruncated>\n"
    "  <Contents><Key>a/one&amp;&#x41;&#66;&lt;&gt;&quot;&apos;</Key>"
    "<LastModified>2009-10-12T17:50:30.000Z</LastModified><ETag>&quot;fba9&quot;</ETag>"
    "<Size>434234</Size><Owner><ID>1</ID><Size>7</Size></Owner></Contents>\n"
    "  <Contents><Size>0</Size><Key>a/two</Key></Contents>\n"
    "  <CommonPrefixes><Prefix>p/</Prefix></CommonPrefixes>\n"
    "  <NextContinuationToken>1ueGcxLPRx1Tr/XYExHnhbYLgveDs2J/wm36Hy4vbOwM=</NextContinuationToken>"
    "\n</ListBucketResult>\n";

struct found {
    char text[512];
    size_t used;
    uint32_t count;
    enum gw_status answer;
};

static enum gw_status take(void *ctx, const char *key, uint64_t size)
{
    struct found *f = ctx;
    f->count++;
    int n = snprintf(f->text + f->used, sizeof f->text - f->used, "%s=%llu ", key,
                     (unsigned long long)size);
    if (n > 0 && (size_t)n < sizeof f->text - f->used)
        f->used += (size_t)n;
    return f->answer;
}

static enum gw_status parse(const char *xml, size_t n, struct found *f, struct gwi_xml_page *page)
{
    /* A copy of just these bytes, so that the address sanitizer sees a read behind them. */
    char *copy = malloc(n ? n : 1);
    cr_assert(copy);
    memcpy(copy, xml, n);
    enum gw_status answer = f->answer;
    *f = (struct found){.answer = answer};
    enum gw_status st = gwi_xml_list(copy, n, take, f, page);
    free(copy);
    return st;
}

Test(blob_xml, a_page_is_taken_as_it_is)
{
    struct found f = {0};
    struct gwi_xml_page page;
    cr_assert_eq(parse(page_text, sizeof page_text - 1, &f, &page), GW_OK);
    cr_expect_str_eq(f.text, "a/one&AB<>\"'=434234 a/two=0 ");
    cr_expect(page.truncated);
    cr_expect_str_eq(page.token, "1ueGcxLPRx1Tr/XYExHnhbYLgveDs2J/wm36Hy4vbOwM=");
    f.answer = GW_END;
    cr_expect_eq(parse(page_text, sizeof page_text - 1, &f, &page), GW_END);
    cr_expect_eq(f.count, 1, "the taker has ended it");
}

Test(blob_xml, a_page_that_is_cut_is_refused_at_every_byte)
{
    struct gwi_xml_page page;
    size_t whole = (size_t)(strstr(page_text, "</ListBucketResult>") - page_text) + 19;
    for (size_t n = 0; n < whole; n++) {
        struct found f = {0};
        cr_assert_eq(parse(page_text, n, &f, &page), GW_E_CORRUPT, "%zu bytes", n);
    }
}

Test(blob_xml, a_changed_byte_leads_nowhere_else)
{
    struct gwi_xml_page page;
    char text[sizeof page_text], code[64], message[128];
    for (size_t at = 0; at < sizeof page_text - 1; at++) {
        for (int c = 0; c < 256; c += c < 128 ? 1 : 13) {
            struct found f = {0};
            memcpy(text, page_text, sizeof text);
            text[at] = (char)c;
            enum gw_status st = parse(text, sizeof text - 1, &f, &page);
            cr_assert(st == GW_OK || st == GW_E_CORRUPT);
            cr_assert_leq(f.count, 2);
            gwi_xml_error(text, sizeof text - 1, code, message);
            cr_assert_eq(code[0], 0);
        }
    }
}

Test(blob_xml, what_is_no_complete_list_is_refused)
{
#define LIST(inner) "<ListBucketResult>" inner "</ListBucketResult>"
#define NO          "<IsTruncated>false</IsTruncated>"
    static const char *const good[] = {
        LIST(NO),
        LIST(NO "<Contents><Key>k</Key><Size>1</Size></Contents>"),
        LIST("<Contents><Key>k</Key><Size>1</Size></Contents>" NO) "\n<!-- end -->",
        LIST(NO "<a b='>' c=\"/>\"/>"),
    };
    static const char *const bad[] = {
        "",
        "not XML at all",
        "<html><body>It works!</body></html>",
        LIST(""),
        LIST(NO NO),
        LIST("<IsTruncated>yes</IsTruncated>"),
        LIST("<IsTruncated><b>true</b></IsTruncated>"),
        LIST(NO "<Contents><Key>k</Key></Contents>"),
        LIST(NO "<Contents><Size>1</Size></Contents>"),
        LIST(NO "<Contents><Key></Key><Size>1</Size></Contents>"),
        LIST(NO "<Contents><Key>k</Key><Key>l</Key><Size>1</Size></Contents>"),
        LIST(NO "<Contents><Key>k</Key><Size>1</Size><Size>1</Size></Contents>"),
        LIST(NO "<Contents><Key>k</Key><Size>-1</Size></Contents>"),
        LIST(NO "<Contents><Key>k</Key><Size>1 </Size></Contents>"),
        LIST(NO "<Contents><Key>k</Key><Size>1000000000000000000</Size></Contents>"),
        LIST(NO "<Contents><Key>&nbsp;</Key><Size>1</Size></Contents>"),
        LIST(NO "<Contents><Key>&#0;</Key><Size>1</Size></Contents>"),
        LIST(NO "<Contents><Key>&#xd800;</Key><Size>1</Size></Contents>"),
        LIST(NO "<Contents><Key>&#x110000;</Key><Size>1</Size></Contents>"),
        LIST(NO "<Contents><Key>&#;</Key><Size>1</Size></Contents>"),
        LIST(NO) LIST(NO),
        LIST(NO) "trailing",
        "<!DOCTYPE a [<!ENTITY b 'c'>]>" LIST(NO),
        LIST(NO "<![CDATA[x]]>"),
        LIST(NO "<a><b></a></b>"),
        LIST(NO "<a b>x</a>"),
        LIST(NO "<a b=c>x</a>"),
        LIST(NO "<1><2><3><4><5><6><7><8></8></7></6></5></4></3></2></1>"),
        "<Error><Code>NoSuchBucket</Code></Error>",
        "<ListAll>" NO "<Contents><Key>k</Key><Size>1</Size></Contents></ListAll>",
    };
    struct gwi_xml_page page;
    struct found f = {0};
    for (size_t i = 0; i < sizeof good / sizeof *good; i++)
        cr_expect_eq(parse(good[i], strlen(good[i]), &f, &page), GW_OK, "%s", good[i]);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        cr_expect_eq(parse(bad[i], strlen(bad[i]), &f, &page), GW_E_CORRUPT, "%s", bad[i]);
    cr_expect_eq(f.count, 0, "an object of what is no list");
}

Test(blob_xml, what_is_too_long_is_refused_where_it_is_wanted)
{
    enum { LONG = GWI_XML_TEXT_BYTES + 10 };
    static char key[LONG + 256], other[LONG + 256], a[LONG + 1];
    struct gwi_xml_page page;
    struct found f = {0};
    memset(a, 'a', LONG);
    snprintf(key, sizeof key, LIST(NO "<Contents><Key>%s</Key><Size>1</Size></Contents>"), a);
    snprintf(other, sizeof other,
             LIST(NO "<Contents><Key>k</Key><Size>1</Size><Other>%s</Other></Contents>"), a);
    cr_expect_eq(parse(key, strlen(key), &f, &page), GW_E_CORRUPT);
    cr_expect_eq(parse(other, strlen(other), &f, &page), GW_OK);
    cr_expect_str_eq(f.text, "k=1 ");
}

Test(blob_xml, an_error_is_found_as_far_as_it_is_there)
{
    char code[64], message[128];
    static const char whole[] =
        "<?xml version='1.0'?><Error><Code>SlowDown</Code><Message>Please reduce "
        "your\nrate.</Message><RequestId>4</RequestId></Error>";
    gwi_xml_error(whole, sizeof whole - 1, code, message);
    cr_expect_str_eq(code, "SlowDown");
    cr_expect_str_eq(message, "Please reduce your?rate.");
    gwi_xml_error(whole, 60, code, message);
    cr_expect_str_eq(code, "SlowDown");
    cr_expect_str_eq(message, "", "it was cut");
    gwi_xml_error("<html>502</html>", 16, code, message);
    cr_expect_str_eq(code, "");
    gwi_xml_error(NULL, 0, code, message);
    cr_expect_str_eq(code, "");
}
